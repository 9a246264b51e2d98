//! The way of each order: only steps that are allowed, and everybody is told of each.

use crate::{
    dumps::{HistoryEntry, Order},
    index::{Index, rows},
    verdict::{Finding, Look},
};

const FINAL: [&str; 2] = ["confirmed", "cancelled"];

/// Whether something may happen to an order in this state and leave it in that one.
fn allowed(before: &str, event: &str, after: &str) -> bool {
    let open = !FINAL.contains(&before);
    match (before, event, after) {
        ("", "order_placed", "placed")
        | ("placed", "stock_reserved", "reserved")
        | ("reserved", "payment_authorized", "paid")
        | ("paid", "stock_committed", "confirmed")
        | ("placed", "stock_rejected", "cancelled")
        | ("reserved", "payment_declined", "cancelled") => true,
        (
            _,
            "stock_released" | "payment_refunded" | "deadline_reached" | "cancellation_requested" | "customer_deleted",
            "cancelled",
        ) if open && !before.is_empty() => true,
        // What another service says too late, too early or again is noted and changes nothing.
        (
            _,
            "stock_reserved" | "stock_rejected" | "stock_released" | "stock_committed" | "payment_authorized"
            | "payment_declined" | "payment_refunded",
            _,
        ) => before == after && !changes(before, event),
        _ => false,
    }
}

/// What cannot leave an order where it is.
fn changes(before: &str, event: &str) -> bool {
    matches!(
        (before, event),
        ("placed", "stock_reserved" | "stock_rejected")
            | ("reserved", "payment_authorized" | "payment_declined")
            | ("paid", "stock_committed")
            | ("placed" | "reserved" | "paid", "payment_refunded")
    )
}

/// Why an order is cancelled by this.
fn reasons(event: &str) -> &'static [&'static str] {
    match event {
        "stock_rejected" => &["out_of_stock", "unknown_product"],
        "payment_declined" => &["payment_declined"],
        "payment_refunded" => &["cancelled_by_shop"],
        "stock_released" | "deadline_reached" => &["expired"],
        "cancellation_requested" => &["cancelled_by_customer", "cancelled_by_shop"],
        "customer_deleted" => &["cancelled_by_customer"],
        _ => &[],
    }
}

/// Each order went only where it may go, step by step, and is where its history says.
pub(crate) fn legal(index: &Index<'_>) -> Finding {
    let mut look = Look::new("saga", "each order went step by step where it may go, and is where its history ends");
    for order in &index.run.orders {
        let mut history = rows(&index.history, &order.id).to_vec();
        history.sort_by_key(|entry| entry.seq);
        let numbers: Vec<i64> = history.iter().map(|entry| entry.seq).collect();
        let counted =
            (1..).zip(&numbers).all(|(expected, seq)| expected == *seq) && numbers.last() == Some(&order.version);
        look.expect(counted, &[&order.id], || format!("version {} with the entries {numbers:?}", order.version));
        walk(&mut look, order, &history);
    }
    look.done()
}

fn walk(look: &mut Look, order: &Order, history: &[&HistoryEntry]) {
    let (mut state, mut ended_by) = ("", None);
    for entry in history {
        look.expect(allowed(state, &entry.event, &entry.state), &[&order.id], || {
            format!("entry {}: {} made {state:?} {:?}", entry.seq, entry.event, entry.state)
        });
        if entry.state == "cancelled" && state != "cancelled" {
            ended_by = Some(entry.event.as_str());
        }
        state = &entry.state;
    }
    look.expect(state == order.state, &[&order.id], || {
        format!("is {:?}, its history ends with {state:?}", order.state)
    });
    let reason = order.reason.as_deref();
    let explained = match ended_by {
        Some(event) => reason.is_some_and(|reason| reasons(event).contains(&reason)),
        None => reason.is_none(),
    };
    look.expect(explained, &[&order.id], || format!("cancelled by {ended_by:?} for the reason {reason:?}"));
}

/// What each order announced is what happened to it, once each.
pub(crate) fn announced(index: &Index<'_>) -> Finding {
    let mut look = Look::new("announced", "each step of an order was announced once, and no other");
    for order in &index.run.orders {
        let states: Vec<&str> = rows(&index.history, &order.id).iter().map(|entry| entry.state.as_str()).collect();
        for (state, kind) in [
            ("placed", "orders.v1.OrderPlaced"),
            ("reserved", "orders.v1.PaymentDue"),
            ("paid", "orders.v1.OrderPaid"),
            ("confirmed", "orders.v1.OrderConfirmed"),
            ("cancelled", "orders.v1.OrderCancelled"),
        ] {
            let expected = usize::from(states.contains(&state));
            let told = index.announced_of(kind, &order.id).len();
            look.expect(told == expected, &[&order.id], || {
                format!("{kind} was announced {told} times instead of {expected}")
            });
        }
        stock_said(&mut look, index, order);
    }
    look.done()
}

/// What the others say about an order, and what of it is written into its history.
const SAID: [(&str, &str); 7] = [
    ("inventory.v1.StockReserved", "stock_reserved"),
    ("inventory.v1.StockRejected", "stock_rejected"),
    ("inventory.v1.StockReleased", "stock_released"),
    ("inventory.v1.StockCommitted", "stock_committed"),
    ("payments.v1.PaymentAuthorized", "payment_authorized"),
    ("payments.v1.PaymentDeclined", "payment_declined"),
    ("payments.v1.PaymentRefunded", "payment_refunded"),
];

/// Whatever the others say about an order had its effect on it once, also where that changes nothing.
pub(crate) fn heard(index: &Index<'_>) -> Finding {
    let mut look =
        Look::new("heard", "whatever is said about an order is in its history once for each time it was said");
    for order in &index.run.orders {
        let history = rows(&index.history, &order.id);
        for (kind, event) in SAID {
            let said = index.announced_of(kind, &order.id).len();
            let noted = history.iter().filter(|entry| entry.event == event).count();
            look.expect(noted == said, &[&order.id], || {
                format!("{kind} was said {said} times and noted {noted} times")
            });
        }
    }
    look.done()
}

/// What inventory announced about an order is what became of its reservation.
fn stock_said(look: &mut Look, index: &Index<'_>, order: &Order) {
    let state = rows(&index.reservations, &order.id).first().map_or("", |found| found.state.as_str());
    // It may have been the customer's before.
    let was_sold = rows(&index.movements, &order.id).iter().any(|movement| movement.cause == "commit");
    let count = |kind: &str| index.announced_of(kind, &order.id).len();
    let said = [
        count("inventory.v1.StockReserved"),
        count("inventory.v1.StockRejected"),
        count("inventory.v1.StockReleased"),
        count("inventory.v1.StockCommitted"),
    ];
    let right = match state {
        "held" => said == [1, 0, 0, 0],
        "committed" => said == [1, 0, 0, 1],
        "released" => said == [1, 0, 1, usize::from(was_sold)],
        "rejected" => said == [0, 1, 0, 0],
        _ => said == [0; 4],
    };
    look.expect(right, &[&order.id], || {
        format!(
            "the reservation is {state:?}; reserved, rejected, released and committed were announced {said:?} times"
        )
    });
}
