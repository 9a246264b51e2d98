//! Requests and what they left behind: what was acknowledged is there, what was refused is not, nothing is there half, and nothing that
//! nobody asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dumps::Answer,
    index::{Index, id_in, only, rows, sorted},
    ledger::{OrderAnswer, Request},
    operations::{Known, Operation},
    verdict::{Finding, Look},
};

/// What was acknowledged is there, once, as it was answered.
pub(crate) fn acknowledged(index: &Index<'_>) -> Finding {
    let mut look = Look::new("acknowledged", "what was acknowledged is there, once, as it was answered");
    for operation in &index.operations {
        let Known::Done(answer) = operation.known() else { continue };
        let name = operation.name();
        match (operation.request, answer) {
            (Request::Order { .. }, Some(answer)) => acknowledged_order(&mut look, index, operation, answer),
            (Request::Cancel { order_id }, _) => {
                let order = only(&index.orders, order_id);
                let cancelled = order.is_some_and(|order| {
                    let wished = ["cancelled_by_customer", "cancelled_by_shop"];
                    order.state == "cancelled" && order.reason.as_deref().is_some_and(|reason| wished.contains(&reason))
                });
                look.expect(cancelled, &[&name, order_id], || {
                    format!("the cancellation was acknowledged, the order is {:?}", order.map(|order| &order.state))
                });
            }
            (Request::Register { email }, _) => {
                let accounts = rows(&index.addresses, email).len();
                look.expect(accounts == 1, &[&name, email], || {
                    format!("{accounts} accounts of an acknowledged registration")
                });
            }
            (Request::Restock { sku, .. }, _) => {
                let answered = operation.key.is_some_and(|key| only(&index.restock_answers, key).is_some());
                look.expect(answered, &[&name, sku], || "an acknowledged restock is not on record".to_owned());
            }
            // The history is damaged, which is found elsewhere.
            (Request::Order { .. }, None) => {}
        }
    }
    look.done()
}

fn acknowledged_order(look: &mut Look, index: &Index<'_>, operation: &Operation<'_>, answer: &OrderAnswer) {
    let (name, id) = (operation.name(), answer.id.as_str());
    let found = rows(&index.orders, id);
    look.expect(found.len() == 1, &[&name, id], || format!("an acknowledged order is there {} times", found.len()));
    let Some(order) = found.first() else { return };
    let same = order.user_id == answer.user_id
        && order.total == answer.total
        && index.lines_of(id) == sorted(answer.lines.clone());
    look.expect(same, &[&name, id], || "the order is another one than was answered".to_owned());
    let stored = operation.key.and_then(|key| only(&index.order_answers, key)).and_then(id_in);
    look.expect(stored == Some(id), &[&name, id], || format!("the stored answer of its key names {stored:?}"));
}

/// What was refused left nothing behind.
pub(crate) fn refused(index: &Index<'_>) -> Finding {
    let mut look = Look::new("refused", "what was refused left nothing behind");
    let cancelled: BTreeSet<&str> = index
        .operations
        .iter()
        .filter(|operation| operation.known() != Known::Refused)
        .filter_map(|operation| match operation.request {
            Request::Cancel { order_id } => Some(order_id.as_str()),
            _ => None,
        })
        .collect();
    let orders_by_trace = first_traces(index);
    for operation in index.operations.iter().filter(|operation| operation.known() == Known::Refused) {
        let name = operation.name();
        match operation.request {
            Request::Order { .. } => {
                let stored = operation.key.map_or(0, |key| rows(&index.order_answers, key).len());
                look.expect(stored == 0, &[&name], || "an answer is stored for a refused order".to_owned());
                let orders: Vec<&str> = operation
                    .attempts
                    .iter()
                    .filter_map(|attempt| orders_by_trace.get(attempt.trace_id))
                    .flatten()
                    .copied()
                    .collect();
                look.expect(orders.is_empty(), &[&name], || format!("a refused request left the orders {orders:?}"));
            }
            Request::Cancel { order_id } if !cancelled.contains(order_id.as_str()) => {
                let by_customer = rows(&index.orders, order_id)
                    .iter()
                    .any(|order| order.reason.as_deref() == Some("cancelled_by_customer"));
                look.expect(!by_customer, &[&name, order_id], || "a refused cancellation has cancelled".to_owned());
            }
            Request::Cancel { .. } => {}
            Request::Register { email } => {
                let accounts = rows(&index.addresses, email).len();
                look.expect(accounts == 0, &[&name, email], || "a refused registration has an account".to_owned());
            }
            Request::Restock { sku, .. } => {
                let stored = operation.key.map_or(0, |key| rows(&index.restock_answers, key).len());
                look.expect(stored == 0, &[&name, sku], || "an answer is stored for a refused restock".to_owned());
            }
        }
    }
    look.done()
}

/// Whatever is there is whole: an order with its lines, its sum, its beginning and its announcement, an account with its announcement.
pub(crate) fn whole(index: &Index<'_>) -> Finding {
    let mut look =
        Look::new("whole", "an order or an account is there with everything that belongs to it, or not at all");
    for (id, found) in &index.orders {
        let lines = rows(&index.lines, id);
        let sum: i64 = lines.iter().map(|line| line.price * line.quantity).sum();
        look.expect(found.len() == 1, &[id], || format!("the order is there {} times", found.len()));
        let total = found.first().map_or(0, |order| order.total);
        look.expect(!lines.is_empty() && sum == total, &[id], || {
            format!("{} lines of {sum} in all, and a total of {total}", lines.len())
        });
        let placed = index.announced_of("orders.v1.OrderPlaced", id).len();
        look.expect(placed == 1, &[id], || format!("OrderPlaced was announced {placed} times"));
    }
    for id in index.lines.keys().chain(index.history.keys()) {
        look.expect(index.orders.contains_key(id), &[id], || {
            "lines or history of an order that is not there".to_owned()
        });
    }
    for one in index.announced.iter().filter(|one| one.event.kind == "orders.v1.OrderPlaced") {
        let (id, message) = (one.event.key.as_str(), one.event.message_id.as_str());
        look.expect(index.orders.contains_key(id), &[id, message], || {
            "OrderPlaced of an order that is not there".to_owned()
        });
    }
    for (id, found) in &index.users {
        look.expect(found.len() == 1, &[id], || format!("the account is there {} times", found.len()));
        let told = index.announced_of("users.v1.UserRegistered", id).len();
        let was_there = found.iter().any(|user| index.run.plan.accounts.contains(&user.email));
        look.expect(told == 1 || was_there, &[id], || format!("UserRegistered was announced {told} times"));
    }
    for one in index.announced.iter().filter(|one| one.event.kind == "users.v1.UserRegistered") {
        let (id, message) = (one.event.key.as_str(), one.event.message_id.as_str());
        look.expect(index.users.contains_key(id), &[id, message], || {
            "UserRegistered of an account that is not there".to_owned()
        });
    }
    look.done()
}

/// Nothing is there that nobody asked for.
pub(crate) fn asked_for(index: &Index<'_>) -> Finding {
    let mut look = Look::new("asked_for", "nothing is there that nobody asked for, and it is what was asked for");
    let mut keys: BTreeMap<&str, &Operation<'_>> = BTreeMap::new();
    let mut addresses = BTreeSet::new();
    for operation in &index.operations {
        keys.extend(operation.key.map(|key| (key, operation)));
        if let Request::Register { email } = operation.request {
            addresses.insert(email.as_str());
        }
    }
    let mut answered: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    for answer in &index.run.order_answers {
        answered.entry(id_in(answer).unwrap_or_default()).or_default().push(answer);
    }
    for order in &index.run.orders {
        let answers = answered.get(order.id.as_str()).map_or(&[][..], Vec::as_slice);
        let operation = answers.first().and_then(|answer| keys.get(answer.key.as_str()));
        look.expect(operation.is_some(), &[&order.id], || "no request asked for this order".to_owned());
        let Some(operation) = operation else { continue };
        let as_asked = match operation.request {
            Request::Order { user_id, lines, payment_method } => {
                *user_id == order.user_id
                    && *payment_method == order.payment_method
                    && sorted(lines.clone()) == index.lines_of(&order.id)
            }
            _ => false,
        };
        look.expect(as_asked, &[&order.id, &operation.name()], || "the order is not what was asked for".to_owned());
    }
    for answer in index.run.order_answers.iter().chain(&index.run.restock_answers) {
        look.expect(keys.contains_key(answer.key.as_str()), &[&answer.key], || {
            "an answer under a key that was never sent".to_owned()
        });
    }
    for user in &index.run.users {
        let asked = addresses.contains(user.email.as_str()) || index.run.plan.accounts.contains(&user.email);
        look.expect(asked, &[&user.id, &user.email], || "nobody registered this account".to_owned());
    }
    look.done()
}

/// A key is one effect and one answer, however often it was sent.
pub(crate) fn one_per_key(index: &Index<'_>) -> Finding {
    let mut look = Look::new("one_per_key", "the same key is one effect and one answer");
    let orders_by_trace = first_traces(index);
    for operation in &index.operations {
        let Some(key) = operation.key else { continue };
        let by_attempt = operation.attempts.iter().filter_map(|attempt| orders_by_trace.get(attempt.trace_id));
        let orders: BTreeSet<&str> = by_attempt.flatten().copied().collect();
        look.expect(orders.len() <= 1, &[&operation.name(), key], || {
            format!("one request became the orders {orders:?}")
        });
    }
    for (what, answers) in [("order", &index.order_answers), ("restock", &index.restock_answers)] {
        for (key, found) in answers {
            look.expect(found.len() == 1, &[key], || format!("{} answers of one {what}", found.len()));
        }
    }
    look.done()
}

/// Orders by the trace in which they began.
fn first_traces<'a>(index: &Index<'a>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut traces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in index.run.order_history.iter().filter(|entry| entry.event == "order_placed") {
        traces.entry(entry.trace_id.as_deref().unwrap_or_default()).or_default().push(&entry.order_id);
    }
    traces
}
