//! A run, arranged for looking things up. Nothing is judged here, and nothing is left out: what is there twice is found twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dumps::{
        Answer, BookEntry, Event, HistoryEntry, Messaging, Movement, Notification, Order, OrderLine, Payment,
        Reservation, SERVICES, User,
    },
    ledger::{Line, Mail},
    operations::{self, Operation},
    run::Run,
};

/// Rows by a key of theirs.
pub(crate) type By<'a, T> = BTreeMap<&'a str, Vec<&'a T>>;

/// A message that a service has announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced<'a> {
    pub(crate) producer: &'static str,
    pub(crate) event: &'a Event,
    /// Not in the outbox any more.
    pub(crate) published: bool,
}

/// A run, arranged.
pub(crate) struct Index<'a> {
    pub(crate) run: &'a Run,
    pub(crate) operations: Vec<Operation<'a>>,
    pub(crate) users: By<'a, User>,
    pub(crate) addresses: By<'a, User>,
    pub(crate) orders: By<'a, Order>,
    pub(crate) lines: By<'a, OrderLine>,
    pub(crate) history: By<'a, HistoryEntry>,
    pub(crate) order_answers: By<'a, Answer>,
    pub(crate) restock_answers: By<'a, Answer>,
    pub(crate) movements: By<'a, Movement>,
    pub(crate) reservations: By<'a, Reservation>,
    pub(crate) payments: By<'a, Payment>,
    pub(crate) book: By<'a, BookEntry>,
    pub(crate) notifications: By<'a, Notification>,
    pub(crate) mails: By<'a, Mail>,
    /// Everything that was announced, in the journals and the outboxes.
    pub(crate) announced: Vec<Announced<'a>>,
    /// The same by type and key.
    by_kind: BTreeMap<&'a str, BTreeMap<&'a str, Vec<Announced<'a>>>>,
    /// The traces of all attempts at the request that an order was asked for with.
    traces: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Index<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        let announced: Vec<_> = services(run).flat_map(|(producer, of)| announced(producer, of)).collect();
        let mut by_kind: BTreeMap<&str, BTreeMap<&str, Vec<_>>> = BTreeMap::new();
        for one in &announced {
            by_kind.entry(&one.event.kind).or_default().entry(&one.event.key).or_default().push(*one);
        }
        let operations = operations::of(&run.history);
        Self {
            run,
            traces: traces(run, &operations),
            operations,
            users: by(&run.users, |row| &row.id),
            addresses: by(&run.users, |row| &row.email),
            orders: by(&run.orders, |row| &row.id),
            lines: by(&run.order_lines, |row| &row.order_id),
            history: by(&run.order_history, |row| &row.order_id),
            order_answers: by(&run.order_answers, |row| &row.key),
            restock_answers: by(&run.restock_answers, |row| &row.key),
            movements: by(&run.movements, |row| row.order_id.as_deref().unwrap_or_default()),
            reservations: by(&run.reservations, |row| &row.order_id),
            payments: by(&run.payments, |row| &row.order_id),
            book: by(&run.book, |row| &row.key),
            notifications: by(&run.notifications, |row| bare(&row.message_id)),
            mails: by(&run.mails, |row| bare(&row.message_id)),
            announced,
            by_kind,
        }
    }

    /// What was announced of this type about this key.
    pub(crate) fn announced_of(&self, kind: &str, key: &str) -> &[Announced<'a>] {
        self.by_kind.get(kind).and_then(|of| of.get(key)).map_or(&[], Vec::as_slice)
    }

    /// What an order is of, sorted.
    pub(crate) fn lines_of(&self, order: &str) -> Vec<Line> {
        sorted(
            rows(&self.lines, order)
                .iter()
                .map(|line| Line { sku: line.sku.clone(), quantity: line.quantity })
                .collect(),
        )
    }

    /// Whether this is a trace in which the order was asked for.
    pub(crate) fn is_in_trace_of(&self, order: &str, trace: Option<&str>) -> bool {
        trace.is_some_and(|trace| self.traces.get(order).is_some_and(|traces| traces.contains(trace)))
    }
}

fn traces<'a>(run: &'a Run, operations: &[Operation<'a>]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let with_key = operations.iter().filter_map(|operation| Some((operation.key?, operation)));
    let by_key: BTreeMap<&str, &Operation<'_>> = with_key.collect();
    let mut traces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for answer in &run.order_answers {
        if let (Some(order), Some(operation)) = (id_in(answer), by_key.get(answer.key.as_str())) {
            traces.entry(order).or_default().extend(operation.attempts.iter().map(|attempt| attempt.trace_id));
        }
    }
    traces
}

/// The services, each with what it keeps of messages.
pub(crate) fn services(run: &Run) -> impl Iterator<Item = (&'static str, &Messaging)> {
    SERVICES.into_iter().zip(&run.messaging)
}

fn announced<'a>(producer: &'static str, of: &'a Messaging) -> impl Iterator<Item = Announced<'a>> {
    let one = move |published| move |event| Announced { producer, event, published };
    of.journal.iter().map(one(true)).chain(of.outbox.iter().map(one(false)))
}

fn by<'a, T>(rows: &'a [T], key: impl Fn(&'a T) -> &'a str) -> By<'a, T> {
    let mut by: By<'a, T> = BTreeMap::new();
    for row in rows {
        by.entry(key(row)).or_default().push(row);
    }
    by
}

/// The rows with this key.
pub(crate) fn rows<'i, 'a, T>(by: &'i By<'a, T>, key: &str) -> &'i [&'a T] {
    by.get(key).map_or(&[], Vec::as_slice)
}

/// The only row with this key; nothing if there is none, or another.
pub(crate) fn only<'a, T>(by: &By<'a, T>, key: &str) -> Option<&'a T> {
    match rows(by, key) {
        [row] => Some(row),
        _ => None,
    }
}

/// The id in the body of an answer.
pub(crate) fn id_in(answer: &Answer) -> Option<&str> {
    answer.body.get("id")?.as_str()
}

/// A `Message-ID` with or without its brackets.
pub(crate) fn bare(message_id: &str) -> &str {
    message_id.trim_start_matches('<').trim_end_matches('>')
}

/// In one order, for comparing.
pub(crate) fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}
