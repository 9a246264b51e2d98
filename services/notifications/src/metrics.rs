//! The metrics of this service: how many letters of each kind reached each state.

use crate::state::{State, Template};

/// Counts a letter that reached a state.
pub(crate) fn became(template: Template, state: State) {
    metrics::counter!("notifications_total", "template" => template.name(), "state" => state.name()).increment(1);
}

/// Says what the numbers mean.
pub(crate) fn describe() {
    metrics::describe_counter!("notifications_total", "Letters that reached a state, by template and state.");
}
