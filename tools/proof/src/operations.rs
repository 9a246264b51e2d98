//! The history as requests: all attempts at one request together, and what is known of the whole of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    index::Index,
    ledger::{Entry, OrderAnswer, Request, What},
    verdict::{Finding, Look},
};

/// One request, with all attempts at it.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) number: u64,
    pub(crate) key: Option<&'a str>,
    pub(crate) request: &'a Request,
    pub(crate) attempts: Vec<Attempt<'a>>,
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) trace_id: &'a str,
    pub(crate) start_ms: u64,
    /// Nothing if no end was written down.
    pub(crate) end: Option<(u64, &'a What)>,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    /// It was done.
    Done(Option<&'a OrderAnswer>),
    /// Each attempt was refused for good.
    Refused,
    /// It was done or not.
    Unclear,
}

impl<'a> Operation<'a> {
    pub(crate) fn known(&self) -> Known<'a> {
        let done = self.attempts.iter().find_map(|attempt| match attempt.end {
            Some((_, What::Ok { order, .. })) => Some(Known::Done(order.as_ref())),
            _ => None,
        });
        let all_refused = self.attempts.iter().all(|attempt| matches!(attempt.end, Some((_, What::Fail { .. }))));
        done.unwrap_or(if all_refused { Known::Refused } else { Known::Unclear })
    }

    /// As it is named in what is found.
    pub(crate) fn name(&self) -> String {
        format!("request {}", self.number)
    }
}

/// The requests of a history. What does not fit together is left out here, and found by [`sound`].
pub(crate) fn of(history: &[Entry]) -> Vec<Operation<'_>> {
    let mut all: BTreeMap<u64, Operation<'_>> = BTreeMap::new();
    let mut places: BTreeMap<(u64, u32), usize> = BTreeMap::new();
    for entry in history {
        if let What::Invoke { key, request } = &entry.what {
            let new = || Operation { number: entry.op, key: key.as_deref(), request, attempts: Vec::new() };
            let attempts = &mut all.entry(entry.op).or_insert_with(new).attempts;
            places.insert((entry.op, entry.attempt), attempts.len());
            attempts.push(Attempt { trace_id: &entry.trace_id, start_ms: entry.monotonic_ms, end: None });
        } else {
            let place = places.get(&(entry.op, entry.attempt));
            let operation = all.get_mut(&entry.op);
            let attempt = operation.zip(place).and_then(|(operation, place)| operation.attempts.get_mut(*place));
            if let Some(attempt) = attempt {
                attempt.end.get_or_insert((entry.monotonic_ms, &entry.what));
            }
        }
    }
    all.into_values().collect()
}

/// The history itself: nobody has lost a line, or written one twice.
pub(crate) fn sound(index: &Index<'_>) -> Finding {
    let mut look = Look::new("history", "each attempt was written down before it was sent, and once when it ended");
    let mut open: BTreeMap<(u64, u32), &What> = BTreeMap::new();
    let mut seen: BTreeMap<u64, (u32, &What)> = BTreeMap::new();
    let mut done: BTreeSet<u64> = BTreeSet::new();
    let mut last_ms = 0;
    for entry in &index.run.history {
        let name = format!("request {} attempt {}", entry.op, entry.attempt);
        look.expect(entry.seed == index.run.plan.seed, &[&name], || format!("is of another run: {}", entry.seed));
        look.expect(entry.monotonic_ms >= last_ms, &[&name], || {
            format!("at {} ms, after {last_ms}", entry.monotonic_ms)
        });
        last_ms = entry.monotonic_ms;
        let attempt = (entry.op, entry.attempt);
        if matches!(entry.what, What::Invoke { .. }) {
            let (last, first) = *seen.get(&entry.op).unwrap_or(&(0, &entry.what));
            look.expect(entry.attempt == last + 1, &[&name], || format!("follows attempt {last}"));
            look.expect(*first == entry.what, &[&name], || {
                "asks for something else than the attempt before".to_owned()
            });
            // With a key it may be asked as often as one likes.
            let is_keyed = matches!(&entry.what, What::Invoke { key: Some(_), .. });
            look.expect(is_keyed || !done.contains(&entry.op), &[&name], || {
                "was sent after an answer that says all, and has no key".to_owned()
            });
            seen.insert(entry.op, (entry.attempt, first));
            open.insert(attempt, &entry.what);
        } else {
            let invoked = open.remove(&attempt);
            look.expect(invoked.is_some(), &[&name], || "ended without having begun, or twice".to_owned());
            if matches!(entry.what, What::Ok { .. }) {
                done.insert(entry.op);
            }
            if let (Some(What::Invoke { request, .. }), What::Ok { order, .. }) = (invoked, &entry.what) {
                let about_an_order = matches!(request, Request::Order { .. } | Request::Cancel { .. });
                look.expect(order.is_some() == about_an_order, &[&name], || {
                    "the answer is about something else".to_owned()
                });
            }
        }
    }
    for (op, attempt) in open.into_keys() {
        look.expect(false, &[&format!("request {op} attempt {attempt}")], || "has no end".to_owned());
    }
    look.done()
}
