//! The metrics of this service.

use crate::{
    order::Order,
    saga::{Fact, State},
};

/// Counts an order that reached a state, and how long it took if the state is final.
pub(crate) fn became(order: &Order) {
    let (state, reason) = (order.state.name(), order.reason.map_or("", |reason| reason.name()));
    metrics::counter!("orders_total", "state" => state, "reason" => reason).increment(1);
    if order.state.is_final() {
        let took = (order.updated_at - order.placed_at).to_std().unwrap_or_default();
        metrics::histogram!("orders_duration_seconds", "state" => state, "reason" => reason).record(took.as_secs_f64());
    }
}

/// Counts a fact that moved nothing: late, known, or not fitting.
pub(crate) fn changed_nothing(state: State, fact: Fact) {
    metrics::counter!("orders_unmoved_total", "state" => state.name(), "fact" => fact.name()).increment(1);
}

/// Counts the streams that are open.
pub(crate) fn streams(change: f64) {
    metrics::gauge!("orders_open_streams").increment(change);
}

/// Says what the numbers mean.
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("orders_total", "Orders that reached a state, by state and reason.");
    describe_histogram!("orders_duration_seconds", Unit::Seconds, "From placing an order to its final state.");
    describe_counter!("orders_unmoved_total", "Facts that moved no order: late, known, or not fitting.");
    describe_gauge!("orders_open_streams", "Live streams that are open.");
}
