//! The metrics of this service. What they cost is bounded: no label comes from outside.

use std::time::Duration;

use crate::{payment::Waiting, provider::ProviderError, state::State};

/// The states in which somebody waits.
const WAITING: [State; 4] = [State::Pending, State::GivingUp, State::Cancelling, State::Refunding];

/// Counts a payment that reached a state.
pub(crate) fn became(state: State) {
    metrics::counter!("payments_total", "state" => state.name()).increment(1);
}

/// Counts a call of the provider.
pub(crate) fn called<T>(call: &'static str, result: &Result<T, ProviderError>, took: Duration) {
    let outcome = result.as_ref().map_or_else(ProviderError::name, |_| "ok");
    metrics::histogram!("payments_provider_call_seconds", "call" => call, "outcome" => outcome)
        .record(took.as_secs_f64());
}

/// Shows how many payments wait, and since when.
pub(crate) fn waiting(waiting: &[Waiting]) {
    for state in WAITING {
        let found = waiting.iter().find(|found| found.state == state);
        let (count, oldest_seconds) = found.map_or((0, 0.0), |found| (found.count, found.oldest_seconds));
        metrics::gauge!("payments_waiting", "state" => state.name()).set(count as f64);
        metrics::gauge!("payments_waiting_oldest_seconds", "state" => state.name()).set(oldest_seconds);
    }
}

/// Says what the numbers mean, and that they can happen.
pub(crate) fn describe() {
    for state in State::ALL {
        metrics::counter!("payments_total", "state" => state.name()).increment(0);
    }
    for call in ["charge", "refund"] {
        drop(metrics::histogram!("payments_provider_call_seconds", "call" => call, "outcome" => "ok"));
    }
    metrics::describe_counter!("payments_total", "Payments that reached a state.");
    metrics::describe_histogram!("payments_provider_call_seconds", "Calls of the provider, by call and outcome.");
    metrics::describe_gauge!("payments_waiting", "Payments that wait for the provider, by state.");
    metrics::describe_gauge!(
        "payments_waiting_oldest_seconds",
        "How long the oldest of them has been in its state: an alarm beyond a few minutes."
    );
}
