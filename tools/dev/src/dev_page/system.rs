//! What runs where, and how it is.

use serde_json::Value;

use super::{all, json};
use crate::{
    process::Tracked,
    replicas,
    services::{SERVICES, Service},
    state::{ServiceProcess, State},
};

/// How a process is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It serves. What it says is not as it should be all the same.
    Ready(Vec<String>),
    /// It does not serve, for these reasons.
    Unready(Vec<String>),
    /// The process ended.
    Gone,
}

/// One process of a service.
pub(super) struct Replica {
    pub(super) label: String,
    pub(super) port: u16,
    pub(super) pid: String,
    pub(super) health: Health,
}

/// A service and its processes; none if it does not run.
pub(super) struct Running {
    pub(super) name: &'static str,
    pub(super) replicas: Vec<Replica>,
}

/// Everything else that is somewhere.
pub(super) struct Place {
    pub(super) name: &'static str,
    /// An address to open.
    pub(super) url: Option<String>,
    pub(super) what: String,
    pub(super) works: bool,
}

pub(super) async fn services(state: &State) -> Vec<Running> {
    let mut order: Vec<&'static Service> = SERVICES.to_vec();
    order.sort_by_key(|service| service.port);
    let asked: Vec<ServiceProcess> = state.services.clone();
    let answers = all(asked.into_iter().map(replica).collect()).await;
    let mut known: Vec<(ServiceProcess, Replica)> = state.services.iter().cloned().zip(answers).collect();
    known.sort_by_key(|(process, _)| process.replica);
    order
        .into_iter()
        .map(|service| {
            let (own, others) = known.drain(..).partition(|(process, _)| process.service == service.name);
            known = others;
            let own: Vec<(ServiceProcess, Replica)> = own;
            Running { name: service.name, replicas: own.into_iter().map(|(_, replica)| replica).collect() }
        })
        .collect()
}

async fn replica(running: ServiceProcess) -> Replica {
    let health = if running.process.is_running() {
        json(running.port, "/readyz")
            .await
            .map_or_else(|reason| Health::Unready(vec![reason]), |report| health(&report))
    } else {
        Health::Gone
    };
    Replica {
        label: replicas::label(&running.service, running.replica),
        port: running.port,
        pid: running.process.pid().to_string(),
        health,
    }
}

/// What `/readyz` says.
fn health(report: &Value) -> Health {
    let failed = report["checks"].as_array().into_iter().flatten().filter(|check| check["ok"] == false);
    let reasons = failed
        .map(|check| {
            format!(
                "{}: {}",
                check["name"].as_str().unwrap_or("?"),
                check["reason"].as_str().unwrap_or("not as it should be")
            )
        })
        .collect();
    if report["ready"] == true { Health::Ready(reasons) } else { Health::Unready(reasons) }
}

/// `prometheus`: whether it answers.
pub(super) fn places(state: &State, prometheus: bool) -> Vec<Place> {
    let ports = state.ports;
    let local = |port: u16| Some(format!("http://localhost:{port}"));
    let mut places = Vec::new();
    let mut add = |name, url, what: String, works| places.push(Place { name, url, what, works });
    add("Traces", local(ports.traces()), "every request, and all that came of it".to_owned(), true);
    if !state.docker {
        add(
            "Map of services",
            Some(format!("http://localhost:{}/map", ports.traces())),
            "who talks to whom".to_owned(),
            true,
        );
    }
    add("Mailbox", local(ports.mailbox()), "every mail that the shop sends".to_owned(), true);
    let metrics = if prometheus { "metrics and alerts" } else { "metrics and alerts; it does not answer" };
    add("Prometheus", local(super::prometheus::port(ports)), metrics.to_owned(), prometheus);
    let (how, works) = engine(state, state.rabbitmq.as_ref());
    add(
        "RabbitMQ",
        local(ports.management()).filter(|_| works),
        format!("{how}; AMQP on 127.0.0.1:{}", ports.amqp()),
        works,
    );
    let (how, works) = engine(state, state.postgres.as_ref());
    add("PostgreSQL", None, format!("{how}; 127.0.0.1:{}, a database for each service", ports.postgres()), works);
    places
}

/// How an engine runs, and whether it does as far as this can be told.
fn engine(state: &State, process: Option<&Tracked>) -> (String, bool) {
    match process {
        Some(process) if process.is_running() => (format!("process {}", process.pid()), true),
        Some(_) => ("it was started and runs no more".to_owned(), false),
        None if state.docker => ("in Docker".to_owned(), true),
        None => ("given by URL".to_owned(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_that_serves_may_have_something_to_say_all_the_same() {
        let check = |name: &str, required: bool, ok: bool| json!({ "name": name, "required": required, "ok": ok, "reason": "away" });
        let report =
            json!({ "ready": true, "checks": [check("database", true, true), check("messaging.relay", false, false)] });
        assert_eq!(health(&report), Health::Ready(vec!["messaging.relay: away".to_owned()]));
        let report = json!({ "ready": false, "checks": [check("database", true, false)] });
        assert_eq!(health(&report), Health::Unready(vec!["database: away".to_owned()]));
    }
}
