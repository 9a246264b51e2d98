//! What can be measured here. What needs the whole shop is measured by `cargo dev bench` itself.

mod commit;
mod consume;
mod growth;
mod hot_key;
mod latency;
mod mail;
mod peers;
mod recovery;
mod relay;

use measure::{Scenario, When};

use crate::Plan;

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario<Plan, anyhow::Error>] = &[
    Scenario {
        name: "relay",
        says: "a backlog on its way to the broker, beside a loop that reads, publishes and deletes",
        when: When::Always,
        measure: |plan| Box::pin(relay::measure(plan)),
    },
    Scenario {
        name: "commit",
        says: "a transaction with one event, beside the same transaction without it",
        when: When::Always,
        measure: |plan| Box::pin(commit::measure(plan)),
    },
    Scenario {
        name: "consume",
        says: "messages that each have an effect and announce an event, beside a plain transaction for each",
        when: When::Always,
        measure: |plan| Box::pin(consume::measure(plan)),
    },
    Scenario {
        name: "latency",
        says: "from a commit to its effect when little goes on, beside the bare path",
        when: When::Always,
        measure: |plan| Box::pin(latency::measure(plan)),
    },
    Scenario {
        name: "hot-key",
        says: "half of all events on one key, beside the same events without it: what the other keys lose",
        when: When::Always,
        measure: |plan| Box::pin(hot_key::measure(plan)),
    },
    Scenario {
        name: "recovery",
        says: "what has gathered while the broker was away and new events on top, beside the same backlog in peace",
        when: When::Always,
        measure: |plan| Box::pin(recovery::measure(plan)),
    },
    Scenario {
        name: "mail",
        says: "an order whose mail is sent by event, beside the same order whose mail is sent before the answer",
        when: When::Always,
        measure: |plan| Box::pin(mail::measure(plan)),
    },
    Scenario {
        name: "growth",
        says: "what a message costs when tables, keys and queues have grown, beside what it costs when they are small",
        when: When::Named,
        measure: |plan| Box::pin(growth::measure(plan)),
    },
    Scenario {
        name: "peers",
        says: "two hops with outbox and inbox, beside published libraries of other languages and of Rust",
        // Installs them, which takes minutes the first time.
        when: When::NotQuick,
        measure: |plan| Box::pin(peers::measure(plan)),
    },
];
