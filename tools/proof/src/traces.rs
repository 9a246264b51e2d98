//! Traces: everything about an order that nobody interfered with is in the trace of the request that asked for it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    index::{Index, rows},
    verdict::{Finding, Look},
};

/// The trace of a confirmed order is one, from the request to the mail.
pub(crate) fn connected(index: &Index<'_>) -> Finding {
    let mut look =
        Look::new("one_trace", "history, goods, payment and mail of a confirmed order are in the trace of its request");
    for (order, breaks) in breaks(index) {
        // A customer who cancels does that in a trace of its own.
        if index.orders.get(order).is_some_and(|found| found.iter().any(|order| order.state == "confirmed")) {
            look.expect(breaks.is_empty(), &[order], || format!("in another trace: {}", breaks.join(", ")));
        }
    }
    look.done()
}

/// Share of the orders that ended of which everything is in one trace.
pub(crate) fn share(index: &Index<'_>) -> f64 {
    let all = breaks(index);
    let connected = all.iter().filter(|(_, breaks)| breaks.is_empty()).count();
    if all.is_empty() { 1.0 } else { connected as f64 / all.len() as f64 }
}

/// For each order what is in another trace than its request.
fn breaks<'a>(index: &Index<'a>) -> Vec<(&'a str, Vec<&'static str>)> {
    let mut letters: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
    for letter in &index.run.notifications {
        let order = letter.details.as_ref().and_then(|details| details.get("order_id")).and_then(Value::as_str);
        letters.entry(order.unwrap_or_default()).or_default().push(letter.trace_id.as_deref());
    }
    index
        .orders
        .keys()
        .map(|order| {
            let outside = |trace: Option<&str>| !index.is_in_trace_of(order, trace);
            let mut breaks = Vec::new();
            if rows(&index.history, order).iter().any(|entry| outside(entry.trace_id.as_deref())) {
                breaks.push("history");
            }
            if rows(&index.movements, order).iter().any(|movement| outside(movement.trace_id.as_deref())) {
                breaks.push("goods");
            }
            if rows(&index.payments, order).iter().any(|payment| outside(payment.trace_id.as_deref())) {
                breaks.push("payment");
            }
            if letters.get(order).into_iter().flatten().any(|trace| outside(*trace)) {
                breaks.push("mail");
            }
            (*order, breaks)
        })
        .collect()
}
