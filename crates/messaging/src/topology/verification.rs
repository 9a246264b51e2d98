//! Whether the broker has what a service needs: asked at its start, and nothing is changed.

use std::{collections::BTreeSet, time::Duration};

use failpoints::without;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use serde_json::{Value, json};
use tracing::{Instrument as _, Span};

use super::{EVENTS_EXCHANGE, LOGS_EXCHANGE, REPLAY_EXCHANGE, Service, Subscription};
use crate::{Broker, Error, broker::one_by_one, context::spans};

const POLICY_LOOKS: u32 = 40;
const POLICY_LOOK_PERIOD: Duration = Duration::from_millis(250);

/// The management API, for what AMQP cannot tell: arguments, bindings and policies.
#[derive(Clone, Debug)]
pub struct Management {
    /// Such as `http://users:secret@127.0.0.1:15672`, with all nodes of a cluster: `http://users:secret@a:15672,b:15672`.
    pub url: String,
    /// The virtual host.
    pub vhost: String,
}

impl Broker {
    /// Checks that everything a service needs is there, and names the first thing that differs. It changes nothing.
    ///
    /// Over AMQP only the existence of exchanges and queues can be seen; with the management API also their arguments, bindings and policy.
    pub async fn verify(&self, service: &Service, management: Option<&Management>) -> Result<(), Error> {
        if without("verification") {
            return Ok(());
        }
        let span = spans::verify(&service.name);
        let verified = self.look_at(service, management).instrument(span.clone()).await;
        if let Err(error) = &verified {
            spans::fail(&span, error.kind(), &error.to_string());
        }
        verified
    }

    async fn look_at(&self, service: &Service, management: Option<&Management>) -> Result<(), Error> {
        for exchange in [EVENTS_EXCHANGE, REPLAY_EXCHANGE, LOGS_EXCHANGE] {
            // A refusal closes the channel, so each question has its own.
            let channel = self.consume_channel().await?;
            let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let declared = channel
                .exchange_declare(exchange.into(), lapin::ExchangeKind::Topic, passive, Default::default())
                .await;
            declared.map_err(|error| refused(format!("exchange {exchange}"), error))?;
        }
        for subscription in &service.subscriptions {
            for (queue, _) in subscription.declared() {
                let channel = self.consume_channel().await?;
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let declared = channel.queue_declare(queue.as_str().into(), passive, Default::default()).await;
                declared.map_err(|error| refused(format!("queue {queue}"), error))?;
            }
            if let Some(management) = management {
                management.verify(subscription).await?;
            }
        }
        Ok(())
    }
}

/// A refusal says that something is missing or differs; anything else says only that the broker could not be asked.
fn refused(what: String, error: lapin::Error) -> Error {
    if error.is_amqp_soft_error() { Error::Topology(format!("{what}: {error}")) } else { Error::Broker(error) }
}

impl Management {
    async fn verify(&self, subscription: &Subscription) -> Result<(), Error> {
        let differs = |what: String| Err(Error::Topology(what));
        let mut found = BTreeSet::new();
        for (name, expected) in subscription.declared() {
            let queue = self.queue(&name).await?;
            if queue["arguments"] != expected {
                return differs(format!(
                    "queue {name} has the arguments {}, wanted are {expected}",
                    queue["arguments"]
                ));
            }
            let policy = subscription.policy_of(&name);
            if queue["policy"] != json!(policy) {
                return differs(format!("queue {name} has the policy {}, wanted is \"{policy}\"", queue["policy"]));
            }
            let bindings = self.get(&format!("queues/{}/{name}/bindings", encode(&self.vhost))).await?;
            for binding in bindings.as_array().into_iter().flatten() {
                let text = |field: &str| binding[field].as_str().unwrap_or_default().to_owned();
                // Every queue is bound to the default exchange by its name.
                if !text("source").is_empty() {
                    found.insert((text("source"), text("destination"), text("routing_key")));
                }
            }
        }
        let wanted = subscription.bindings();
        if let Some((exchange, queue, key)) = wanted.difference(&found).next() {
            return differs(format!("queue {queue} is not bound to {exchange} with {key}"));
        }
        if let Some((exchange, queue, key)) = found.difference(&wanted).next() {
            return differs(format!("queue {queue} is bound to {exchange} with {key}, which no handler takes"));
        }
        Ok(())
    }

    /// A queue, with its policy. The list without statistics knows a policy at once; a single queue's page only
    /// with its next statistics, 5 s apart. A broker that leaves it out of the list is asked for as long.
    async fn queue(&self, name: &str) -> Result<Value, Error> {
        let list = format!("queues/{}?disable_stats=true&enable_queue_totals=true", encode(&self.vhost));
        let single = format!("queues/{}/{name}", encode(&self.vhost));
        let listed = self.get(&list).await?;
        let found = listed.as_array().into_iter().flatten().find(|queue| queue["name"] == json!(name)).cloned();
        let mut queue = match found {
            Some(queue) => queue,
            None => self.get(&single).await?,
        };
        for _ in 0..POLICY_LOOKS {
            if queue["policy"].is_string() {
                break;
            }
            tokio::time::sleep(POLICY_LOOK_PERIOD).await;
            queue = self.get(&single).await?;
        }
        Ok(queue)
    }

    /// Asks the nodes one after the other, until one is there. What that one says is what counts.
    async fn get(&self, path: &str) -> Result<Value, Error> {
        let nodes = one_by_one(&self.url).unwrap_or_else(|| vec![self.url.clone()]);
        let (last, others) =
            nodes.split_last().ok_or_else(|| Error::Configuration("the management API has no URL".into()))?;
        for node in others {
            match Self::ask(node, path).await {
                Err(error) if error.status().is_none() && !error.is_decode() => {}
                answer => return answer.map_err(|error| unanswered(path, error)),
            }
        }
        Self::ask(last, path).await.map_err(|error| unanswered(path, error))
    }

    async fn ask(node: &str, path: &str) -> Result<Value, reqwest::Error> {
        // Another part may have chosen a provider before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let request = client.get(format!("{}/api/{path}", node.trim_end_matches('/'))).build()?;
        let span = spans::management_request(request.url());
        let answer = async {
            let answer = client.execute(request).await?;
            Span::current().record("http.response.status_code", i64::from(answer.status().as_u16()));
            answer.error_for_status()?.json().await
        };
        let answer: Result<Value, reqwest::Error> = answer.instrument(span.clone()).await;
        // The URL holds the password; neither the span nor the error must.
        answer.map_err(reqwest::Error::without_url).inspect_err(|error| {
            let kind = error.status().map_or_else(|| "transport".to_owned(), |status| status.as_str().to_owned());
            spans::fail(&span, &kind, &error.to_string());
        })
    }
}

/// Only what is not there is known to differ. A broker that has just been set up anew does not know its users yet, and one that starts does
/// not answer: both will.
fn unanswered(path: &str, error: reqwest::Error) -> Error {
    let missing = error.status() == Some(reqwest::StatusCode::NOT_FOUND);
    let wrong = error.is_builder();
    let text = format!("{path}: {}", error.without_url());
    match (missing, wrong) {
        (true, _) => Error::Topology(text),
        (_, true) => Error::Configuration(format!("the URL of the management API: {text}")),
        _ => Error::Management(text),
    }
}

/// Percent-encodes a path segment (RFC 3986 §2.1).
fn encode(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
