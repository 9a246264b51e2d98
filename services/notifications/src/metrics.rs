//! The metrics of this service: how many letters of each kind reached each state.

use crate::state::{State, Template};

/// Counts a letter that reached a state.
pub(crate) fn became(template: Template, state: State) {
    metrics::counter!("notifications_total", "template" => template.name(), "state" => state.name()).increment(1);
}

/// Says what the numbers mean, and that they can happen.
pub(crate) fn describe() {
    for (template, state) in Template::ALL.into_iter().flat_map(|template| State::ALL.map(|state| (template, state))) {
        metrics::counter!("notifications_total", "template" => template.name(), "state" => state.name()).increment(0);
    }
    metrics::describe_counter!("notifications_total", "Letters that reached a state, by template and state.");
}
