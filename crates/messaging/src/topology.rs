//! The broker's topology, generated from what the services' handlers subscribe to, and verified by them.
//!
//! Services declare nothing and have no right to: the definitions are imported before anything publishes. `mandatory` proves one
//! subscriber, not all of them, so a queue that a service made for itself at its first start would have missed what came before.

mod verification;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event::LANES;

pub use verification::Management;

/// The topic exchange that every event goes through; the routing key is `<event type>.<lane>`.
pub const EVENTS_EXCHANGE: &str = "events";
/// The topic exchange for replays to one consumer; the routing key is `<consumer>.<lane>`.
pub const REPLAY_EXCHANGE: &str = "replay";
/// The topic exchange for lines of logs, which are published without an outbox; the routing key is the service that wrote the line, and
/// no service may write another one's.
pub const LOGS_EXCHANGE: &str = "logs";
/// Where a queue's own dead letters go: a net under the consumer, which keeps its dead letters in Postgres.
pub const DEAD_EXCHANGE: &str = "dead";

/// The broker gives up on a message after so many deliveries that came to nothing: never. Since RabbitMQ 4 it is 20 unless something else is
/// said, and each lost connection counts for all messages in hand; from a queue without dead-lettering, such as the net, they vanish then. How
/// often to try is decided here, where it is known why it failed.
const DELIVERIES: u32 = 1_000_000_000;

/// What a queue of lines keeps while no collector takes them; then the oldest make room. A collector that is away must never fill the broker.
const MAX_LINES: u64 = 100_000;
const MAX_LINES_BYTES: u64 = 64 * 1024 * 1024;

/// What a consumer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feed {
    /// Events: none may be lost, so their queue is replicated and refuses what it cannot take.
    Events,
    /// Lines of logs, of all services: their queue bounds itself by dropping the oldest, and there are no dead letters.
    Logs,
}

/// What one consumer subscribes to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The consumer's name, which is its queue's.
    pub consumer: String,
    /// What it takes.
    pub feed: Feed,
    /// The full names of the events it handles. Lines of logs are taken whatever they are.
    pub types: BTreeSet<String>,
    /// Order per key is kept: one active consumer at a time.
    pub ordered: bool,
    /// How many queues the lanes are spread over; 1 unless ordered consumption is scaled out.
    pub partitions: u8,
}

/// One service's part of the topology.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    /// The service, which is its broker user and the head of the types that it may publish.
    pub name: String,
    /// What it consumes.
    pub subscriptions: Vec<Subscription>,
}

/// A broker user for a service.
pub struct User<'a> {
    /// The service that the user is for.
    pub service: &'a Service,
    /// Its password, in clear.
    pub password: &'a str,
}

impl Subscription {
    /// All lines of logs, for collectors of this name: they share the queue, without order.
    pub fn logs(consumer: &str) -> Self {
        Self { consumer: consumer.to_owned(), feed: Feed::Logs, types: BTreeSet::new(), ordered: false, partitions: 1 }
    }

    /// The queues, each with the lanes that it takes.
    fn queues(&self) -> Vec<(String, Vec<i16>)> {
        match self.partitions {
            0 | 1 => vec![(self.consumer.clone(), Vec::new())],
            partitions => (0..partitions)
                .map(|partition| {
                    let lanes =
                        (0..LANES).filter(|lane| lane % i16::from(partitions) == i16::from(partition)).collect();
                    (self::partition(&self.consumer, i16::from(partition)), lanes)
                })
                .collect(),
        }
    }

    pub(crate) fn queue_names(&self) -> Vec<String> {
        self.queues().into_iter().map(|(queue, _)| queue).collect()
    }

    /// The net below this consumer's queues.
    pub(crate) fn dead_queue(&self) -> String {
        format!("{}.dead", self.consumer)
    }

    fn arguments(&self) -> Value {
        match self.feed {
            Feed::Events if self.ordered => json!({ "x-queue-type": "quorum", "x-single-active-consumer": true }),
            Feed::Events => json!({ "x-queue-type": "quorum" }),
            // Lines are not worth a copy on every node.
            Feed::Logs => json!({ "x-queue-type": "classic" }),
        }
    }

    /// Every queue with its arguments: those that are consumed, and the net below them.
    fn declared(&self) -> Vec<(String, Value)> {
        let consumed = self.queue_names().into_iter().map(|queue| (queue, self.arguments()));
        let net = (self.feed == Feed::Events).then(|| (self.dead_queue(), json!({ "x-queue-type": "quorum" })));
        consumed.chain(net).collect()
    }

    /// The name of the policy that one of its queues has.
    fn policy_of<'a>(&'a self, queue: &'a str) -> &'a str {
        if queue == self.dead_queue() { queue } else { &self.consumer }
    }

    /// What the broker may do with its queues. At-least-once dead-lettering needs `reject-publish`; without a limit it never rejects.
    fn policies(&self, vhost: &str) -> Vec<Value> {
        let policy = |name: &str, queues: &[String], definition: Value| {
            let queues: Vec<_> = queues.iter().map(|name| escape(name)).collect();
            json!({
                "name": name, "vhost": vhost, "apply-to": "queues", "priority": 1,
                "pattern": format!("^({})$", queues.join("|")),
                "definition": definition,
            })
        };
        let of_queues = match self.feed {
            Feed::Events => json!({
                "dead-letter-exchange": DEAD_EXCHANGE,
                "dead-letter-routing-key": self.consumer,
                "dead-letter-strategy": "at-least-once",
                "delivery-limit": DELIVERIES,
                "overflow": "reject-publish",
            }),
            Feed::Logs => {
                json!({ "max-length": MAX_LINES, "max-length-bytes": MAX_LINES_BYTES, "overflow": "drop-head" })
            }
        };
        let mut policies = vec![policy(&self.consumer, &self.queue_names(), of_queues)];
        if self.feed == Feed::Events {
            let dead = self.dead_queue();
            policies.push(policy(&dead, std::slice::from_ref(&dead), json!({ "delivery-limit": DELIVERIES })));
        }
        policies
    }

    /// (exchange, queue, routing key), sorted.
    fn bindings(&self) -> BTreeSet<(String, String, String)> {
        let mut bindings = BTreeSet::new();
        if self.feed == Feed::Logs {
            bindings.insert((LOGS_EXCHANGE.into(), self.consumer.clone(), "#".into()));
            return bindings;
        }
        for (queue, lanes) in self.queues() {
            let lanes: Vec<_> =
                if lanes.is_empty() { vec!["*".to_owned()] } else { lanes.iter().map(ToString::to_string).collect() };
            for lane in lanes {
                for event_type in &self.types {
                    bindings.insert((EVENTS_EXCHANGE.into(), queue.clone(), format!("{event_type}.{lane}")));
                }
                bindings.insert((REPLAY_EXCHANGE.into(), queue.clone(), format!("{}.{lane}", self.consumer)));
            }
        }
        bindings.insert((DEAD_EXCHANGE.into(), self.dead_queue(), self.consumer.clone()));
        bindings
    }
}

/// One of the queues of a consumer that is spread over several.
pub(crate) fn partition(consumer: &str, number: i16) -> String {
    format!("{consumer}.{number}")
}

/// The definitions of a virtual host, in the format that RabbitMQ imports: exchanges, queues, bindings, policies, and a user for each service
/// that may publish its own events and read its own queues, and nothing else.
pub fn definitions(vhost: &str, users: &[User<'_>]) -> Value {
    let subscriptions: Vec<_> = users.iter().flat_map(|user| &user.service.subscriptions).collect();
    let exchange = |name: &str, kind: &str| {
        json!({ "name": name, "vhost": vhost, "type": kind, "durable": true, "auto_delete": false, "internal": false,
                "arguments": {} })
    };
    let queue = |name: &str, arguments: Value| json!({ "name": name, "vhost": vhost, "durable": true, "auto_delete": false, "arguments": arguments });
    let mut queues = Vec::new();
    let mut bindings = Vec::new();
    let mut policies = Vec::new();
    for subscription in subscriptions {
        queues.extend(subscription.declared().into_iter().map(|(name, arguments)| queue(&name, arguments)));
        bindings.extend(subscription.bindings().into_iter().map(|(source, destination, routing_key)| {
            json!({ "source": source, "vhost": vhost, "destination": destination, "destination_type": "queue",
                    "routing_key": routing_key, "arguments": {} })
        }));
        policies.extend(subscription.policies(vhost));
    }
    json!({
        "vhosts": [{ "name": vhost }],
        "users": users.iter().map(|user| json!({
            "name": user.service.name,
            "password_hash": password_hash(user.password),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            // For looking at its own queues through the management API, to verify them.
            "tags": ["management"],
        })).collect::<Vec<_>>(),
        "permissions": users.iter().map(|user| permissions(vhost, user.service)).collect::<Vec<_>>(),
        "topic_permissions": users.iter().flat_map(|user| topic_permissions(vhost, &user.service.name)).collect::<Vec<_>>(),
        "exchanges": [exchange(EVENTS_EXCHANGE, "topic"), exchange(REPLAY_EXCHANGE, "topic"), exchange(LOGS_EXCHANGE, "topic"),
                      exchange(DEAD_EXCHANGE, "direct")],
        "queues": queues,
        "bindings": bindings,
        "policies": policies,
    })
}

/// A service may write events of its own types, and lines under its own name: whoever reads them can trust that.
fn topic_permissions(vhost: &str, service: &str) -> [Value; 2] {
    let may_write = |exchange: &str, keys: String| json!({ "user": service, "vhost": vhost, "exchange": exchange, "write": keys, "read": "^$" });
    let name = escape(service);
    [may_write(EVENTS_EXCHANGE, format!("^{name}\\.")), may_write(LOGS_EXCHANGE, format!("^{name}$"))]
}

fn permissions(vhost: &str, service: &Service) -> Value {
    let own: Vec<_> =
        service.subscriptions.iter().flat_map(Subscription::declared).map(|(queue, _)| escape(&queue)).collect();
    let read = if own.is_empty() { "^$".to_owned() } else { format!("^({})$", own.join("|")) };
    json!({ "user": service.name, "vhost": vhost, "configure": "^$",
            "write": format!("^({EVENTS_EXCHANGE}|{REPLAY_EXCHANGE}|{LOGS_EXCHANGE})$"), "read": read })
}

fn escape(name: &str) -> String {
    name.replace('.', "\\.")
}

/// RabbitMQ's format: base64 of a 4-byte salt and SHA-256 of salt and password.
fn password_hash(password: &str) -> String {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    // The same password has the same hash, so that importing the same definitions again changes nothing.
    let salt = &Sha256::digest(format!("postrider salt {password}"))[..4];
    let mut bytes = salt.to_vec();
    bytes.extend(Sha256::new().chain_update(salt).chain_update(password).finalize());
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
