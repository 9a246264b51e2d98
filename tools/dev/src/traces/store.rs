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

    /// Every trace, that with the latest arrival first.
    pub(super) fn traces(&self) -> Vec<Vec<Arc<Span>>> {
        let traces = self.lock();
        let newest_first = traces.order.iter().rev().filter_map(|id| traces.by_id.get(id));
        newest_first.map(|trace| in_order(trace.spans.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Traces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_order(mut spans: Vec<Arc<Span>>) -> Vec<Arc<Span>> {
    spans.sort_by_key(|span| (span.start_ns, std::cmp::Reverse(span.end_ns)));
    spans
}

/// The spans of a trace as a tree, depth first: each with its depth. A span whose parent is not there is a root.
pub(super) fn tree(spans: &[Arc<Span>]) -> Vec<(usize, &Arc<Span>)> {
    let mut children: HashMap<Option<&str>, Vec<&Arc<Span>>> = HashMap::new();
    for span in spans {
        let parent = span
            .parent_id
            .as_deref()
            .filter(|parent| *parent != span.span_id && spans.iter().any(|other| other.span_id == *parent));
        children.entry(parent).or_default().push(span);
    }
    let mut open: Vec<(usize, &Arc<Span>)> =
        children.remove(&None).into_iter().flatten().rev().map(|root| (0, root)).collect();
    let mut tree = Vec::with_capacity(spans.len());
    while let Some((depth, span)) = open.pop() {
        tree.push((depth, span));
        open.extend(
            children.remove(&Some(span.span_id.as_str())).into_iter().flatten().rev().map(|child| (depth + 1, child)),
        );
    }
    tree
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
    fn a_tree_is_depth_first_and_orphans_are_roots() {
        let spans: Vec<_> = [
            span("1", "root", "", "root", 0, 100),
            span("1", "b", "root", "b", 20, 30),
            span("1", "c", "b", "c", 21, 22),
            span("1", "d", "root", "d", 40, 50),
            span("1", "orphan", "missing", "orphan", 60, 70),
        ]
        .map(Arc::new)
        .into();
        let tree: Vec<_> = tree(&spans).into_iter().map(|(depth, span)| (depth, span.name.as_str())).collect();
        assert_eq!(tree, [(0, "root"), (1, "b"), (2, "c"), (1, "d"), (0, "orphan")]);
    }
}
