//! The metrics of this service: what became of orders here, and what came in.

use crate::reservation::{Reason, State};

/// Counts an order that reached a state.
pub(crate) fn became(state: State, reason: Option<Reason>) {
    let reason = reason.map_or("", Reason::name);
    metrics::counter!("inventory_reservations_total", "state" => state.name(), "reason" => reason).increment(1);
}

/// Counts a product of which little is left.
pub(crate) fn low_stock() {
    metrics::counter!("inventory_low_stock_total").increment(1);
}

/// Counts pieces that came in.
pub(crate) fn received(quantity: u32) {
    metrics::counter!("inventory_received_pieces_total").increment(u64::from(quantity));
}

/// Says what the numbers mean, and that they can happen.
pub(crate) fn describe() {
    let ends = [
        (State::Held, ""),
        (State::Committed, ""),
        (State::Released, Reason::Expired.name()),
        (State::Released, Reason::Cancelled.name()),
        (State::Rejected, Reason::OutOfStock.name()),
        (State::Rejected, Reason::UnknownProduct.name()),
        (State::Cancelled, ""),
    ];
    for (state, reason) in ends {
        metrics::counter!("inventory_reservations_total", "state" => state.name(), "reason" => reason).increment(0);
    }
    metrics::counter!("inventory_low_stock_total").increment(0);
    metrics::counter!("inventory_received_pieces_total").increment(0);
    metrics::describe_counter!(
        "inventory_reservations_total",
        "Orders that reached a state here, by state and reason."
    );
    metrics::describe_counter!("inventory_low_stock_total", "Products that fell to the low-stock threshold.");
    metrics::describe_counter!("inventory_received_pieces_total", "Pieces that came in by restocks.");
}
