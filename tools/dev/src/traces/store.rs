//! The spans, in memory, by trace; the oldest trace goes when there are too many.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const BYTES_MAX: usize = 128 * 1024 * 1024;
/// More than anybody looks at; a loop that traces itself must not push out everything else.
const SPANS_PER_TRACE_MAX: usize = 10_000;

/// Where spans come from: a process of a service.
#[derive(Debug, PartialEq)]
pub struct Resource {
    /// `service.name`.
    pub service: String,
    /// All attributes, `service.name` among them.
    pub attributes: Vec<(String, Value)>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Lists, maps and bytes, as JSON.
    Json(serde_json::Value),
}

impl Value {
    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Json(value) => value.to_string(),
        }
    }
}

/// A span's role in a call or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Inside one process.
    Internal,
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Makes a message.
    Producer,
    /// Handles a message.
    Consumer,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing was said about it.
    Unset,
    /// Explicitly well.
    Ok,
    /// Badly, for this reason.
    Error(String),
}

/// Something that happened at one moment of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: String,
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// More about it.
    pub attributes: Vec<(String, Value)>,
}

/// One span. Ids are lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// 32 digits.
    pub trace_id: String,
    /// 16 digits.
    pub span_id: String,
    /// The span that it is part of; `None` for a root.
    pub parent_id: Option<String>,
    /// What was done.
    pub name: String,
    /// Its role.
    pub kind: Kind,
    /// Begin, in nanoseconds since 1970.
    pub start_ns: u64,
    /// End, in nanoseconds since 1970.
    pub end_ns: u64,
    /// More about it.
    pub attributes: Vec<(String, Value)>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// Trace and span ids of what it is related to without being part of it.
    pub links: Vec<(String, String)>,
    /// How it ended.
    pub status: Status,
    /// The library that made it.
    pub scope: String,
    /// W3C `tracestate`.
    pub trace_state: String,
    /// The process that made it.
    pub resource: Arc<Resource>,
}

impl Span {
    /// How long it took, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Whether it ended badly.
    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self.status, Status::Error(_))
    }

    /// An attribute by name, as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.attribute(name).map(Value::text)
    }

    /// Whether it is one statement of a database's client.
    pub(super) fn is_sql(&self) -> bool {
        let of_database = |name: &str| name.starts_with("db.");
        self.kind == Kind::Client && self.attributes.iter().any(|(name, _)| of_database(name))
    }

    /// An attribute by name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Trace {
    spans: Vec<Arc<Span>>,
    bytes: usize,
}

#[derive(Default)]
struct Traces {
    by_id: HashMap<String, Trace>,
    /// In the order in which their first span arrived.
    order: VecDeque<String>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Store(Mutex<Traces>);

impl Store {
    /// Keeps a span that took `bytes` on the wire. One that is there already is replaced: exporters may send twice.
    pub(super) fn add(&self, span: Span, bytes: usize) {
        let mut traces = self.lock();
        if !traces.by_id.contains_key(&span.trace_id) {
            traces.order.push_back(span.trace_id.clone());
        }
        let trace = traces.by_id.entry(span.trace_id.clone()).or_default();
        if let Some(known) = trace.spans.iter_mut().find(|known| known.span_id == span.span_id) {
            *known = Arc::new(span);
        } else if trace.spans.len() < SPANS_PER_TRACE_MAX {
            trace.spans.push(Arc::new(span));
            trace.bytes += bytes;
            traces.bytes += bytes;
        }
        while traces.bytes > BYTES_MAX && traces.order.len() > 1 {
            let Some(oldest) = traces.order.pop_front() else { return };
            traces.bytes -= traces.by_id.remove(&oldest).map_or(0, |trace| trace.bytes);
        }
    }

    /// The spans of a trace in the order of their beginning. Leading zeros of the id may be missing.
    pub(super) fn trace(&self, id: &str) -> Option<Vec<Arc<Span>>> {
        let id = format!("{:0>32}", id.to_ascii_lowercase());
        let spans = self.lock().by_id.get(&id)?.spans.clone();
        Some(in_order(spans))
    }

    /// Every trace, that which began last first.
    pub(super) fn traces(&self) -> Vec<Vec<Arc<Span>>> {
        let all: Vec<_> = self.lock().by_id.values().map(|trace| trace.spans.clone()).collect();
        let mut traces: Vec<_> = all.into_iter().map(in_order).collect();
        traces.sort_by_key(|spans| std::cmp::Reverse(spans.first().map(|span| (span.start_ns, span.trace_id.clone()))));
        traces
    }

    /// The spans, of any trace, that link to those of one: by the id of the span that they link to.
    pub(super) fn links_to(&self, trace: &str) -> HashMap<String, Vec<Arc<Span>>> {
        let mut found: HashMap<String, Vec<Arc<Span>>> = HashMap::new();
        for span in self.lock().by_id.values().flat_map(|trace| &trace.spans) {
            for (_, linked) in span.links.iter().filter(|(linked, _)| linked == trace) {
                found.entry(linked.clone()).or_default().push(Arc::clone(span));
            }
        }
        for linking in found.values_mut() {
            linking.sort_by_key(|span| span.start_ns);
        }
        found
    }

    /// One span, if it is here.
    pub(super) fn span(&self, trace: &str, id: &str) -> Option<Arc<Span>> {
        self.lock().by_id.get(trace)?.spans.iter().find(|span| span.span_id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Traces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_order(mut spans: Vec<Arc<Span>>) -> Vec<Arc<Span>> {
    spans.sort_by_key(|span| (span.start_ns, std::cmp::Reverse(span.end_ns)));
    spans
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::traces) fn span(trace: &str, id: &str, parent: &str, name: &str, start_ns: u64, end_ns: u64) -> Span {
        Span {
            trace_id: format!("{trace:0>32}"),
            span_id: id.to_owned(),
            parent_id: (!parent.is_empty()).then(|| parent.to_owned()),
            name: name.to_owned(),
            kind: Kind::Internal,
            start_ns,
            end_ns,
            attributes: vec![],
            events: vec![],
            links: vec![],
            status: Status::Unset,
            scope: String::new(),
            trace_state: String::new(),
            resource: Arc::new(Resource { service: "users".to_owned(), attributes: vec![] }),
        }
    }

    #[test]
    fn memory_is_bounded_by_dropping_the_oldest_traces() {
        let store = Store::default();
        store.add(span("1", "a", "", "old", 1, 2), BYTES_MAX / 2);
        store.add(span("2", "a", "", "middle", 3, 4), BYTES_MAX / 2);
        store.add(span("3", "a", "", "new", 5, 6), BYTES_MAX / 2);
        assert!(store.trace("1").is_none());
        let names: Vec<_> = store.traces().iter().map(|trace| trace[0].name.clone()).collect();
        assert_eq!(names, ["new", "middle"]);
    }

    #[test]
    fn a_span_that_is_sent_twice_is_there_once() {
        let store = Store::default();
        store.add(span("1", "a", "", "first", 1, 2), 10);
        store.add(span("1", "a", "", "again", 1, 3), 10);
        let spans = store.trace("1").unwrap();
        assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["again"]);
    }

    #[test]
    fn a_link_is_found_from_its_other_end() {
        let store = Store::default();
        let mut window = span("2", "w", "", "send events", 5, 9);
        window.links = vec![(format!("{:0>32}", 1), "a".to_owned()), (format!("{:0>32}", 3), "x".to_owned())];
        store.add(span("1", "a", "", "create", 1, 2), 10);
        store.add(window, 10);
        let links = store.links_to(&format!("{:0>32}", 1));
        assert_eq!(links.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(links["a"].iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["send events"]);
    }
}
