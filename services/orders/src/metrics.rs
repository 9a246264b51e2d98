//! The metrics of this service.

use crate::{
    order::{Open, Order},
    saga::{Fact, Reason, State},
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

/// Shows how many orders wait for somebody, and since when.
pub(crate) fn open(open: &[Open]) {
    for state in State::ALL.into_iter().filter(|state| !state.is_final()) {
        let found = open.iter().find(|found| found.state == state);
        let (count, oldest_seconds) = found.map_or((0, 0.0), |found| (found.count, found.oldest_seconds));
        metrics::gauge!("orders_open", "state" => state.name()).set(count as f64);
        metrics::gauge!("orders_oldest_age_seconds", "state" => state.name()).set(oldest_seconds);
    }
}

/// Says what the numbers mean, and that they can happen.
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("orders_total", "Orders that reached a state, by state and reason.");
    describe_histogram!("orders_duration_seconds", Unit::Seconds, "From placing an order to its final state.");
    describe_counter!("orders_unmoved_total", "Facts that moved no order: late, known, or not fitting.");
    describe_gauge!("orders_open_streams", "Live streams that are open.");
    describe_gauge!("orders_open", "Orders that are not final, by state.");
    describe_gauge!(
        "orders_oldest_age_seconds",
        Unit::Seconds,
        "Age of the oldest order that is not final, by state: beyond all deadlines, it is stuck."
    );
    let begins = State::ALL.into_iter().filter(|state| *state != State::Cancelled).map(|state| (state.name(), ""));
    let ends = Reason::ALL.into_iter().map(|reason| (State::Cancelled.name(), reason.name()));
    for (state, reason) in begins.chain(ends) {
        metrics::counter!("orders_total", "state" => state, "reason" => reason).increment(0);
    }
    drop(metrics::histogram!("orders_duration_seconds", "state" => State::Confirmed.name(), "reason" => ""));
    for (state, fact) in State::ALL.into_iter().flat_map(|state| Fact::ALL.map(|fact| (state, fact))) {
        metrics::counter!("orders_unmoved_total", "state" => state.name(), "fact" => fact.name()).increment(0);
    }
    metrics::gauge!("orders_open_streams").set(0.0);
}
