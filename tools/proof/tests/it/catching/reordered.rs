//! What is in another order.

use proof::ledger::What;

use super::{Mutation, ORDERS, pick, within};

#[rustfmt::skip]
pub(super) const REORDERED: &[Mutation] = &[
    ("an answer is before its request", &["history"], |run, index| {
        let place = pick(&run.history, index, |entry| matches!(entry.what, What::Invoke { .. }));
        let op = run.history[place].op;
        let next = (place + 1..run.history.len()).find(|next| run.history[*next].op == op);
        // A request without an end has nothing to change places with: it is moved behind the next one's beginning instead.
        let next = next.unwrap_or_else(|| if place + 1 < run.history.len() { place + 1 } else { place - 1 });
        run.history.swap(place, next);
        String::new()
    }),
    ("a message overtakes another of its key", &["ordered"], |run, index| {
        let first = pick(&run.tap, index, |message| message.seq == 1 && message.kind == "orders.v1.OrderPlaced");
        let key = run.tap[first].key.clone();
        let first = run.tap.iter().position(|message| message.key == key && message.kind == "orders.v1.OrderPlaced").unwrap();
        let later = run.tap.iter().rposition(|message| message.key == key && message.kind.starts_with("orders.") && message.seq > 1).unwrap();
        run.tap.swap(first, later);
        key
    }),
    ("inventory hears of an order's end before its beginning", &["ordered"], |run, index| {
        let place = pick(&run.reservations, index, |row| row.state == "released");
        run.reservations[place].state = "cancelled".to_owned();
        run.reservations[place].order_id.clone()
    }),
    ("a deadline comes before its time", &["punctual"], |run, index| {
        let place = pick(&run.order_history, index, |entry| entry.event == "deadline_reached");
        run.order_history[place].at_ms = run.order_history[place].at_ms.map(|at| at - 100);
        run.order_history[place].order_id.clone()
    }),
    ("an order is left in peace when its time is over", &["punctual"], |run, index| {
        let place = pick(&run.order_history, index, |entry| entry.event != "order_placed" && entry.seq == 2);
        run.order_history[place].at_ms = run.order_history[place].at_ms.map(|at| at + 61_100);
        run.order_history[place].order_id.clone()
    }),
    ("goods lapse before their time", &["punctual"], |run, index| {
        let place = pick(&run.reservations, index, |row| row.reason.as_deref() == Some("expired"));
        run.reservations[place].expires_ms = run.reservations[place].expires_ms.map(|at| at + 1_000);
        run.reservations[place].order_id.clone()
    }),
    ("goods are held when their time is over", &["punctual"], |run, index| {
        let place = pick(&run.reservations, index, |row| row.state == "committed");
        run.reservations[place].expires_ms = run.reservations[place].expires_ms.map(|at| at - 61_100);
        run.reservations[place].order_id.clone()
    }),
    ("goods are sold before they are held", &["stock"], |run, index| {
        let commit = pick(&run.movements, index, |movement| movement.cause == "commit");
        let order = run.movements[commit].order_id.clone();
        let sku = run.movements[commit].sku.clone();
        let reserve = run.movements.iter().position(|other| other.order_id == order && other.sku == sku && other.cause == "reserve").unwrap();
        let (a, b) = (run.movements[commit].id, run.movements[reserve].id);
        (run.movements[commit].id, run.movements[reserve].id) = (b, a);
        order.unwrap()
    }),
    ("an order's history tells things in another order", &["saga"], |run, index| {
        let second = pick(&run.order_history, index, |entry| entry.seq == 2);
        let order = run.order_history[second].order_id.clone();
        let first = run.order_history.iter().position(|entry| entry.order_id == order && entry.seq == 1).unwrap();
        (run.order_history[first].seq, run.order_history[second].seq) = (2, 1);
        order
    }),
    ("numbers and positions of a key disagree", &["ordered"], of!(ORDERS, journal, |rows, index| {
        let second = pick(rows, index, |row| row.seq == 2);
        let key = rows[second].key.clone();
        let first = rows.iter().position(|row| row.key == key && row.seq == 1).unwrap();
        (rows[first].position, rows[second].position) = (rows[second].position, rows[first].position);
        key
    })),
];
