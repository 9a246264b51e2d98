//! The time between spans, in which nobody worked and something waited: an event in the outbox until the broker has confirmed it
//! (dwell), then in its queue (transit); a job until a worker takes it; a failed attempt until the next one.

use std::{collections::HashMap, sync::Arc};

use super::{
    store::{Kind, Span},
    tree::Node,
};

/// Why nothing went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// From an event's creation to the broker's confirm.
    Dwell,
    /// From the broker's confirm to the beginning of the handling.
    Transit,
    /// Both together, when nothing tells of the confirm.
    Delivery,
    /// From the end of what asked for it to its beginning.
    Turn,
    /// From the end of one attempt to the beginning of the next.
    Retry,
}

impl Wait {
    /// One word for the picture.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dwell => "dwell",
            Self::Transit => "transit",
            Self::Delivery => "delivery",
            Self::Turn => "waiting",
            Self::Retry => "retry after",
        }
    }

    /// What stands beside its sign.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Dwell => "dwell (created to confirmed)",
            Self::Transit => "transit (confirmed to handled)",
            Self::Delivery => "delivery (created to handled)",
            Self::Turn => "waiting",
            Self::Retry => "until the next attempt",
        }
    }

    /// What it means.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Dwell => "dwell: from the event's creation to the broker's confirm",
            Self::Transit => "transit: from the broker's confirm to the beginning of the handling",
            Self::Delivery => "delivery: from the event's creation to the beginning of the handling",
            Self::Turn => "waiting: from the end of what asked for it to its beginning",
            Self::Retry => "retry: from the end of the attempt before to the beginning of this one",
        }
    }
}

/// A time in which something waited, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) wait: Wait,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
}

impl Gap {
    fn new(wait: Wait, from_ns: u64, to_ns: u64) -> Option<Self> {
        (to_ns > from_ns).then_some(Self { wait, from_ns, to_ns })
    }

    pub(super) fn duration_ns(self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// For each span of a tree, in its order, what was waited for before it (or, of an event, after it). `links` are the spans that link
/// to those of the tree.
pub(super) fn gaps(nodes: &[Node<'_>], links: &HashMap<String, Vec<Arc<Span>>>) -> Vec<Option<Gap>> {
    // The end of the latest attempt at the same thing: same parent, same service, same name.
    let mut attempts: HashMap<(&str, &str, &str), u64> = HashMap::new();
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        let span = node.span;
        let gap = match node.parent {
            _ if span.kind == Kind::Producer => {
                confirmed_ns(span, links).and_then(|end| Gap::new(Wait::Dwell, span.end_ns, end))
            }
            Some(parent) if begins_later(span, parent) => {
                let attempt = (parent.span_id.as_str(), span.resource.service.as_str(), span.name.as_str());
                match (attempts.insert(attempt, span.end_ns), confirmed_ns(parent, links)) {
                    (Some(before), _) => Gap::new(Wait::Retry, before, span.start_ns),
                    (None, Some(confirm)) if parent.kind == Kind::Producer => {
                        Gap::new(Wait::Transit, confirm, span.start_ns)
                    }
                    (None, _) if parent.kind == Kind::Producer => {
                        Gap::new(Wait::Delivery, parent.end_ns, span.start_ns)
                    }
                    (None, _) => Gap::new(Wait::Turn, parent.end_ns, span.start_ns),
                }
            }
            _ => None,
        };
        all.push(gap);
    }
    all
}

/// What is not part of its parent's time was asked for, and done later.
fn begins_later(span: &Span, parent: &Span) -> bool {
    span.start_ns >= parent.end_ns
}

/// When the window that an event was sent in had all its confirms. A later one is a repetition.
fn confirmed_ns(event: &Span, links: &HashMap<String, Vec<Arc<Span>>>) -> Option<u64> {
    let linking = links.get(&event.span_id)?;
    let sends = linking.iter().filter(|span| span.text("messaging.operation.type").as_deref() == Some("send"));
    sends.map(|span| span.end_ns).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::{
        store::{Value, tests::span},
        tree::tree,
    };

    fn of(spans: Vec<Span>, links: &[(&str, Span)]) -> Vec<Option<(&'static str, u64, u64)>> {
        let spans: Vec<_> = spans.into_iter().map(Arc::new).collect();
        let links = links.iter().map(|(id, span)| ((*id).to_owned(), vec![Arc::new(span.clone())])).collect();
        let found = gaps(&tree(&spans), &links).into_iter();
        found.map(|gap| gap.map(|gap| (gap.wait.name(), gap.from_ns, gap.to_ns))).collect()
    }

    fn event(kind: Kind, mut span: Span) -> Span {
        span.kind = kind;
        span
    }

    #[test]
    fn an_event_dwells_until_its_confirm_and_is_in_transit_until_its_handling() {
        let spans = vec![
            event(Kind::Producer, span("1", "c", "", "create", 10, 12)),
            event(Kind::Consumer, span("1", "p", "c", "process", 40, 50)),
        ];
        let mut send = span("2", "s", "", "send", 15, 30);
        send.attributes = vec![("messaging.operation.type".to_owned(), Value::Text("send".to_owned()))];
        assert_eq!(of(spans.clone(), &[("c", send)]), [Some(("dwell", 12, 30)), Some(("transit", 30, 40))]);
        let redrive = span("3", "r", "", "redrive", 60, 61);
        assert_eq!(of(spans, &[("c", redrive)]), [None, Some(("delivery", 12, 40))], "only a send tells of a confirm");
    }

    #[test]
    fn the_next_attempt_waits_from_the_end_of_the_one_before() {
        let spans = vec![
            event(Kind::Consumer, span("1", "p", "", "process", 0, 10)),
            span("1", "a", "p", "perform", 15, 20),
            span("1", "b", "p", "perform", 50, 60),
            span("1", "x", "p", "inner", 2, 4),
        ];
        let waits = of(spans, &[]);
        assert_eq!(waits, [None, Some(("waiting", 10, 15)), Some(("retry after", 20, 50)), None]);
    }
}
