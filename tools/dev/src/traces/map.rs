//! The map of services, derived from traces: who calls whom, who hears whom, and what else they work with (databases, brokers, mail
//! servers), as far as spans tell of it.

mod layout;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::store::{Kind, Span};

pub(super) use layout::{Layout, Place};

/// What a node of the map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// It sends spans itself.
    Service,
    /// The others are known from the spans of those who use them.
    Database,
    /// Takes messages.
    Broker,
    /// Takes mail.
    Mail,
    /// Anything else that is called.
    Other,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Database => "database",
            Self::Broker => "broker",
            Self::Mail => "mail server",
            Self::Other => "external",
        }
    }
}

/// Somebody on the map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) name: String,
}

/// How one reaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// An answer is waited for.
    Call,
    /// An event, or another message.
    Event,
}

impl How {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Call => "calls",
            Self::Event => "announces to",
        }
    }
}

/// What went one way.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) count: u64,
    pub(super) errors: u64,
    latencies_ns: Vec<u64>,
    /// Service and operation under which it is found, and how often.
    pub(super) operations: BTreeMap<(String, String), u64>,
}

impl Traffic {
    /// Of a call how long it takes; of an event how long until its handling begins.
    pub(super) fn median_ns(&self) -> u64 {
        let mut sorted = self.latencies_ns.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn add(&mut self, span: &Span, failed: bool, latency_ns: u64) {
        self.count += 1;
        self.errors += u64::from(failed);
        self.latencies_ns.push(latency_ns);
        *self.operations.entry((span.resource.service.clone(), span.name.clone())).or_default() += 1;
    }
}

#[derive(Default)]
pub(super) struct Map {
    /// With their spans, and how many of them failed.
    pub(super) nodes: BTreeMap<Node, (u64, u64)>,
    pub(super) edges: BTreeMap<(Node, Node, How), Traffic>,
}

impl Map {
    /// `leaves`: whether what sends no spans itself is on it.
    pub(super) fn of(traces: &[Vec<Arc<Span>>], leaves: bool) -> Self {
        let mut map = Self::default();
        for spans in traces {
            map.add(spans, leaves);
        }
        map
    }

    fn add(&mut self, spans: &[Arc<Span>], leaves: bool) {
        let by_id: HashMap<&str, &Arc<Span>> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
        let mut answered: Vec<&str> = Vec::new();
        for span in spans {
            let (count, errors) = self.nodes.entry(service(span)).or_default();
            *count += 1;
            *errors += u64::from(span.failed());
            let Some(parent) = span.parent_id.as_deref().and_then(|id| by_id.get(id)) else { continue };
            let how = match (parent.kind, span.kind) {
                (Kind::Producer, Kind::Consumer) => How::Event,
                (Kind::Client, Kind::Server) => {
                    answered.push(&parent.span_id);
                    How::Call
                }
                _ if parent.resource.service == span.resource.service => continue,
                (_, Kind::Consumer) => How::Event,
                _ => How::Call,
            };
            let (failed, latency_ns) = match how {
                How::Event => (span.failed(), span.start_ns.saturating_sub(parent.end_ns)),
                How::Call => (span.failed() || parent.failed(), parent.duration_ns().max(span.duration_ns())),
            };
            self.edges.entry((service(parent), service(span), how)).or_default().add(span, failed, latency_ns);
        }
        if leaves {
            for span in spans.iter().filter(|span| !answered.contains(&span.span_id.as_str())) {
                self.add_leaf(span);
            }
        }
    }

    fn add_leaf(&mut self, span: &Span) {
        let Some(node) = leaf(span) else { return };
        let (count, errors) = self.nodes.entry(node.clone()).or_default();
        *count += 1;
        *errors += u64::from(span.failed());
        let traffic = self.edges.entry((service(span), node, How::Call)).or_default();
        traffic.add(span, span.failed(), span.duration_ns());
    }

    /// What Jaeger calls dependencies: parent service, child service, how often.
    pub(super) fn dependencies(traces: &[Vec<Arc<Span>>]) -> BTreeMap<(String, String), u64> {
        let mut calls = BTreeMap::new();
        for spans in traces {
            let by_id: HashMap<&str, &Arc<Span>> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
            for span in spans {
                let parent = span.parent_id.as_deref().and_then(|id| by_id.get(id));
                if let Some(parent) = parent.filter(|parent| parent.resource.service != span.resource.service) {
                    let pair = (parent.resource.service.clone(), span.resource.service.clone());
                    *calls.entry(pair).or_default() += 1;
                }
            }
        }
        calls
    }
}

fn service(span: &Span) -> Node {
    Node { what: What::Service, name: span.resource.service.clone() }
}

/// Whom a span talks to that sends no spans. To a broker that is a call too: its confirm is waited for.
fn leaf(span: &Span) -> Option<Node> {
    if span.kind != Kind::Client {
        return None;
    }
    let address = || {
        let host = span.text("server.address").or_else(|| span.text("net.peer.name"))?;
        Some(span.text("server.port").map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
    };
    let (what, name) = if let Some(system) = span.text("db.system.name").or_else(|| span.text("db.system")) {
        let database = span.text("db.namespace").or_else(|| span.text("db.name"));
        (What::Database, database.map_or_else(|| system.clone(), |database| format!("{database} ({system})")))
    } else if let Some(system) = span.text("messaging.system") {
        (What::Broker, system)
    } else if span.text("network.protocol.name").as_deref() == Some("smtp") {
        (What::Mail, "SMTP".to_owned())
    } else {
        let name = span.text("peer.service").or_else(address);
        (What::Other, name.unwrap_or_else(|| span.name.clone()))
    };
    Some(Node { what, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::store::{Resource, Status, Value, tests::span};

    fn of(service: &str, kind: Kind, mut span: Span) -> Span {
        span.resource = Arc::new(Resource { service: service.to_owned(), attributes: vec![] });
        span.kind = kind;
        span
    }

    fn traces() -> Vec<Vec<Arc<Span>>> {
        let mut statement = of("orders", Kind::Client, span("1", "sql", "post", "insert", 2, 5));
        statement.attributes = [("db.system.name", "postgresql"), ("db.namespace", "orders")]
            .map(|(name, value)| (name.to_owned(), Value::Text(value.to_owned())))
            .into();
        let mut handling = of("inventory", Kind::Consumer, span("1", "process", "create", "process", 30, 40));
        handling.status = Status::Error("no".to_owned());
        let spans = [
            of("orders", Kind::Server, span("1", "post", "", "POST /orders", 0, 20)),
            statement,
            of("orders", Kind::Producer, span("1", "create", "post", "create", 10, 12)),
            handling,
            of("orders", Kind::Consumer, span("1", "deadline", "create", "process", 90, 95)),
            of("orders", Kind::Client, span("1", "get", "post", "GET /jwks", 2, 9)),
            of("users", Kind::Server, span("1", "jwks", "get", "GET /jwks", 3, 8)),
        ];
        vec![spans.map(Arc::new).into()]
    }

    #[test]
    fn the_map_tells_calls_events_and_databases_apart() {
        let map = Map::of(&traces(), true);
        let edges: Vec<_> = map
            .edges
            .iter()
            .map(|((from, to, how), traffic)| {
                (from.name.as_str(), to.name.as_str(), *how, traffic.count, traffic.errors, traffic.median_ns())
            })
            .collect();
        assert_eq!(
            edges,
            [
                ("orders", "inventory", How::Event, 1, 1, 18),
                ("orders", "orders", How::Event, 1, 0, 78),
                ("orders", "users", How::Call, 1, 0, 7),
                ("orders", "orders (postgresql)", How::Call, 1, 0, 3),
            ]
        );
        assert_eq!(Map::of(&traces(), false).edges.len(), 3, "without what sends no spans");
    }

    #[test]
    fn dependencies_are_between_different_services_only() {
        let dependencies = Map::dependencies(&traces());
        let pairs: Vec<_> =
            dependencies.iter().map(|((from, to), count)| (from.as_str(), to.as_str(), *count)).collect();
        assert_eq!(pairs, [("orders", "inventory", 1), ("orders", "users", 1)]);
    }
}
