//! What an administrator does on RabbitMQ: imports the definitions of a virtual host and takes away what they no longer hold.
//! Everything goes through the management API.

use std::{collections::BTreeSet, time::Duration};

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
    pub(crate) amqp: Endpoint,
    pub(crate) management: Endpoint,
    pub(crate) vhost: String,
}

impl RabbitMq {
    pub(super) fn own(origin: Origin, amqp_port: u16, management_port: u16, user: &str, password: &str) -> Self {
        Self {
            origin,
            amqp: Endpoint::local("amqp", amqp_port, user, password, "%2F"),
            management: Endpoint::local("http", management_port, user, password, ""),
            vhost: VHOST.to_owned(),
        }
    }

    /// The URLs with which a service reaches the broker and the part of the management API that is its own.
    pub(crate) fn urls(&self, service: &str, password: &str) -> (Endpoint, Endpoint) {
        let amqp = self.amqp.for_user(service, password, &endpoint::encode(&self.vhost));
        (amqp, self.management.for_user(service, password, ""))
    }

    /// Imports definitions, and removes the bindings between things in them that they do not hold: an import only ever adds.
    pub(crate) async fn import(&self, definitions: &Value) -> Result<()> {
        let answer = http::request(&self.management, Method::POST, "/api/definitions", Some(definitions)).await?;
        answer.success().context("RabbitMQ does not take the definitions")?;
        for path in obsolete_bindings(
            &self.vhost,
            definitions,
            &self.get(&format!("bindings/{}", endpoint::encode(&self.vhost))).await?,
        ) {
            let answer = http::request(&self.management, Method::DELETE, &path, None).await?;
            ensure!(answer.status.is_success() || answer.status == StatusCode::NOT_FOUND, "{path}: {}", answer.text());
        }
        Ok(())
    }

    /// Deletes the virtual host, with everything in it.
    pub(crate) async fn forget(&self) -> Result<()> {
        let path = format!("/api/vhosts/{}", endpoint::encode(&self.vhost));
        let answer = http::request(&self.management, Method::DELETE, &path, None).await?;
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
        let answer = http::request(&self.management, Method::POST, &path, Some(&message)).await?.success()?.json()?;
        ensure!(answer["routed"] == true, "there is no queue {queue}");
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        http::request(&self.management, Method::GET, &format!("/api/{path}"), None).await?.success()?.json()
    }

    /// Waits until the management API answers and AMQP is listened to.
    pub(super) async fn wait(
        &self,
        step: &mut Step,
        patience: Duration,
        still_coming: impl Fn() -> Result<()>,
    ) -> Result<Value> {
        let started = std::time::Instant::now();
        loop {
            let reason = match self.get("overview").await {
                Ok(overview) => match tokio::net::TcpStream::connect((self.amqp.host.as_str(), self.amqp.port)).await {
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
    let rabbitmq = RabbitMq { origin: Origin::Given, amqp, management, vhost };
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
    let rabbitmq = RabbitMq::own(Origin::Docker(compose.clone()), amqp, management, DOCKER_ADMIN, password);
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
