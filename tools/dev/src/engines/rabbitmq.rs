//! What an administrator does on RabbitMQ: imports the definitions of a virtual host and takes away what they no longer hold.
//! Everything goes through the management API.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::Origin;
use crate::{
    console::Step,
    docker::Compose,
    endpoint::{self, Endpoint},
    http, programs,
    state::State,
};

/// The virtual host of the shop where the whole broker is ours.
const VHOST: &str = "postrider";
const DOCKER_ADMIN: &str = "postrider-dev";

/// A RabbitMQ that answers, and its administrator.
#[derive(Clone, Debug)]
pub(crate) struct RabbitMq {
    pub(crate) origin: Origin,
    /// The first node, or the only one.
    pub(crate) amqp: Endpoint,
    pub(crate) management: Endpoint,
    pub(crate) vhost: String,
    /// The other nodes of its cluster.
    others: Vec<Place>,
    /// The node that answered last, counted from the first one on: it is asked first.
    answers: Arc<AtomicUsize>,
}

/// Where a node listens on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    amqp: u16,
    management: u16,
}

impl Place {
    pub(super) fn local(amqp: u16, management: u16) -> Self {
        Self { amqp, management }
    }
}

impl RabbitMq {
    pub(super) fn own(origin: Origin, first: Place, others: Vec<Place>, user: &str, password: &str) -> Self {
        Self {
            origin,
            amqp: Endpoint::local("amqp", first.amqp, user, password, "%2F"),
            management: Endpoint::local("http", first.management, user, password, ""),
            vhost: VHOST.to_owned(),
            others,
            answers: Arc::default(),
        }
    }

    /// The URLs with which a service reaches the broker and the part of the management API that is its own. They name every node.
    pub(crate) fn urls(&self, service: &str, password: &str) -> (String, String) {
        let amqp = self.amqp.for_user(service, password, &endpoint::encode(&self.vhost));
        let management = self.management.for_user(service, password, "");
        let others = |port: fn(&Place) -> u16| self.others.iter().map(port).collect::<Vec<_>>();
        (amqp.with_ports(&others(|place| place.amqp)), management.with_ports(&others(|place| place.management)))
    }

    /// The URL with which a service reaches the only node through something that listens there; nothing if there are several.
    pub(crate) fn url_through(&self, service: &str, password: &str, address: SocketAddr) -> Option<String> {
        let amqp = self.amqp.for_user(service, password, &endpoint::encode(&self.vhost));
        self.others.is_empty().then(|| amqp.through(address).with_password())
    }

    /// The management API of every node, the first one first.
    fn managements(&self) -> Vec<Endpoint> {
        let others = self.others.iter().map(|place| Endpoint { port: place.management, ..self.management.clone() });
        std::iter::once(self.management.clone()).chain(others).collect()
    }

    /// Asks the management API of a node that is there: the one that answered last, else any other. What it says counts, unless it says
    /// that it cannot tell.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<http::Answer> {
        let managements = self.managements();
        let first = self.answers.load(Ordering::Relaxed);
        let mut last = None;
        for index in (first..first + managements.len()).map(|index| index % managements.len()) {
            let answer = http::request(&managements[index], method.clone(), path, body).await;
            let tells = answer.as_ref().is_ok_and(|answer| !answer.status.is_server_error());
            last = Some(answer);
            if tells {
                self.answers.store(index, Ordering::Relaxed);
                break;
            }
        }
        last.context("a broker has a node")?
    }

    /// Lets its administrator into the virtual host. Whoever makes one is let in, but by the node that was asked first, and maybe not yet.
    pub(crate) async fn open_vhost(&self) -> Result<()> {
        let path =
            format!("/api/permissions/{}/{}", endpoint::encode(&self.vhost), endpoint::encode(&self.management.user));
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        self.ask(Method::PUT, &path, Some(&all)).await?.success().map(drop).with_context(|| path)
    }

    /// Imports definitions, and removes the bindings between things in them that they do not hold: an import only ever adds.
    pub(crate) async fn import(&self, definitions: &Value) -> Result<()> {
        let answer = self.ask(Method::POST, "/api/definitions", Some(definitions)).await?;
        answer.success().context("RabbitMQ does not take the definitions")?;
        for path in obsolete_bindings(
            &self.vhost,
            definitions,
            &self.get(&format!("bindings/{}", endpoint::encode(&self.vhost))).await?,
        ) {
            let answer = self.ask(Method::DELETE, &path, None).await?;
            ensure!(answer.status.is_success() || answer.status == StatusCode::NOT_FOUND, "{path}: {}", answer.text());
        }
        Ok(())
    }

    /// Deletes the virtual host, with everything in it.
    pub(crate) async fn forget(&self) -> Result<()> {
        let path = format!("/api/vhosts/{}", endpoint::encode(&self.vhost));
        let answer = self.ask(Method::DELETE, &path, None).await?;
        ensure!(answer.status.is_success() || answer.status == StatusCode::NOT_FOUND, "{path}: {}", answer.text());
        Ok(())
    }

    /// Puts something into a queue that nobody announced.
    pub(crate) async fn put(&self, queue: &str, payload: &str) -> Result<()> {
        self.publish(queue, &json!({}), payload).await
    }

    /// The same, with properties.
    pub(crate) async fn publish(&self, queue: &str, properties: &Value, payload: &str) -> Result<()> {
        let path = format!("/api/exchanges/{}/amq.default/publish", endpoint::encode(&self.vhost));
        let message =
            json!({ "properties": properties, "routing_key": queue, "payload": payload, "payload_encoding": "string" });
        let answer = self.ask(Method::POST, &path, Some(&message)).await?.success()?.json()?;
        ensure!(answer["routed"] == true, "there is no queue {queue}");
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, &format!("/api/{path}"), None).await?.success()?.json()
    }

    /// What the others say while one node, counted from 0, is not to be believed.
    pub(crate) async fn get_without(&self, node: usize, path: &str) -> Result<Value> {
        let mut last = None;
        for (_, management) in self.managements().into_iter().enumerate().filter(|(number, _)| *number != node) {
            let answer = http::request(&management, Method::GET, &format!("/api/{path}"), None).await;
            match answer.and_then(http::Answer::success).and_then(|answer| answer.json()) {
                Ok(value) => return Ok(value),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there is no other node")?)
    }

    /// Waits until the management API answers and AMQP is listened to, of its only node or of the first one.
    pub(super) async fn wait(
        &self,
        step: &mut Step,
        patience: Duration,
        still_coming: impl Fn() -> Result<()>,
    ) -> Result<Value> {
        self.wait_for(&self.amqp, &self.management, step, patience, still_coming).await
    }

    /// The same of the node that is at this place.
    pub(super) async fn wait_at(
        &self,
        place: Place,
        step: &mut Step,
        patience: Duration,
        still_coming: impl Fn() -> Result<()>,
    ) -> Result<Value> {
        let amqp = Endpoint { port: place.amqp, ..self.amqp.clone() };
        let management = Endpoint { port: place.management, ..self.management.clone() };
        self.wait_for(&amqp, &management, step, patience, still_coming).await
    }

    async fn wait_for(
        &self,
        amqp: &Endpoint,
        management: &Endpoint,
        step: &mut Step,
        patience: Duration,
        still_coming: impl Fn() -> Result<()>,
    ) -> Result<Value> {
        let started = std::time::Instant::now();
        loop {
            let overview = http::request(management, Method::GET, "/api/overview", None).await;
            let reason = match overview.and_then(http::Answer::success).and_then(|answer| answer.json()) {
                Ok(overview) => match tokio::net::TcpStream::connect((amqp.host.as_str(), amqp.port)).await {
                    Ok(_) => return Ok(overview),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.root_cause().to_string(),
            };
            still_coming()?;
            ensure!(started.elapsed() < patience, "RabbitMQ does not answer: {reason}");
            step.note(&format!("booting, which takes a quarter of a minute ({reason})"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The API paths of the bindings that are there and should not be: those of exchanges of the definitions to queues of the definitions.
fn obsolete_bindings(vhost: &str, definitions: &Value, found: &Value) -> Vec<String> {
    let names = |kind: &str| -> BTreeSet<String> {
        definitions[kind]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["name"].as_str().map(str::to_owned))
            .collect()
    };
    let triple = |binding: &Value| {
        ["source", "destination", "routing_key"].map(|key| binding[key].as_str().unwrap_or_default().to_owned())
    };
    let (exchanges, queues) = (names("exchanges"), names("queues"));
    let wanted: BTreeSet<_> = definitions["bindings"].as_array().into_iter().flatten().map(triple).collect();
    let found = found.as_array().into_iter().flatten();
    let obsolete = found.filter(|binding| {
        let [source, queue, _] = triple(binding);
        exchanges.contains(&source) && queues.contains(&queue) && !wanted.contains(&triple(binding))
    });
    obsolete
        .map(|binding| {
            let [source, queue, _] = triple(binding).map(|part| endpoint::encode(&part));
            let properties = endpoint::encode(binding["properties_key"].as_str().unwrap_or_default());
            format!("/api/bindings/{}/e/{source}/q/{queue}/{properties}", endpoint::encode(vhost))
        })
        .collect()
}

/// A broker that the caller named; the virtual host is the one of its URL.
pub(super) async fn given(amqp: Endpoint, management: Endpoint) -> Result<RabbitMq> {
    let mut step = Step::start("RabbitMQ", "asking the broker of AMQP_URL");
    let vhost = if amqp.path.is_empty() { "/".to_owned() } else { endpoint::decode(&amqp.path)? };
    let (others, answers) = (Vec::new(), Arc::default());
    let rabbitmq = RabbitMq { origin: Origin::Given, amqp, management, vhost, others, answers };
    let overview = rabbitmq
        .wait(&mut step, Duration::from_secs(5), || Ok(()))
        .await
        .context("RABBITMQ_MANAGEMENT_URL, AMQP_URL")?;
    step.done(format_args!("{} answers at {}", version(&overview), rabbitmq.amqp));
    Ok(rabbitmq)
}

pub(super) async fn in_docker(state: &State, compose: &Compose) -> Result<RabbitMq> {
    let mut step = Step::start("RabbitMQ", "waiting for the container");
    let password = &state.admin_password;
    let make_admin = format!(
        "rabbitmqctl await_startup --timeout 90 && (rabbitmqctl add_user {DOCKER_ADMIN} {password} || \
         rabbitmqctl change_password {DOCKER_ADMIN} {password}) && rabbitmqctl set_user_tags {DOCKER_ADMIN} administrator && \
         rabbitmqctl set_permissions --vhost / {DOCKER_ADMIN} '.*' '.*' '.*'"
    );
    programs::output(compose.exec("rabbitmq").args(["sh", "-c", &make_admin])).await?;
    let (amqp, management) = (compose.port("rabbitmq", 5672).await?, compose.port("rabbitmq", 15672).await?);
    let rabbitmq = RabbitMq::own(
        Origin::Docker(compose.clone()),
        Place::local(amqp, management),
        Vec::new(),
        DOCKER_ADMIN,
        password,
    );
    let overview = rabbitmq.wait(&mut step, Duration::from_secs(60), || Ok(())).await?;
    step.done(format_args!("{} in Docker, on port {amqp}", version(&overview)));
    Ok(rabbitmq)
}

pub(super) fn version(overview: &Value) -> &str {
    overview["rabbitmq_version"].as_str().unwrap_or("(unknown version)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_that_no_handler_wants_any_more_are_found_and_foreign_ones_left_alone() {
        let definitions = json!({
            "exchanges": [{ "name": "events" }],
            "queues": [{ "name": "notifications" }],
            "bindings": [{ "source": "events", "destination": "notifications", "routing_key": "users.v1.UserDeleted.*" }],
        });
        let binding = |source: &str, queue: &str, key: &str| json!({ "source": source, "destination": queue, "routing_key": key, "properties_key": key });
        let found = json!([
            binding("", "notifications", "notifications"),
            binding("events", "notifications", "users.v1.UserDeleted.*"),
            binding("events", "notifications", "users.v1.Old.*"),
            binding("events", "somebody-elses", "users.v1.Old.*"),
        ]);
        assert_eq!(
            obsolete_bindings("/", &definitions, &found),
            ["/api/bindings/%2F/e/events/q/notifications/users.v1.Old.%2A"]
        );
    }
}
