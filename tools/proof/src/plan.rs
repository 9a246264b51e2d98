//! `plan.json`: what the run was to be, as far as the checker needs it. Whoever makes runs keeps more in the same file.

use serde::{Deserialize, Serialize};

/// What the run was to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What everything random was drawn from.
    pub seed: u64,
    /// Addresses of accounts that were there without a request: the first operator's.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Ids of the messages that were made to fail: exactly these are parked in the end.
    #[serde(default)]
    pub poisons: Vec<String>,
    /// What must have happened, so that a run in which nothing happened does not pass.
    pub floors: Floors,
    /// No fault was planned: then nothing is delivered twice.
    #[serde(default)]
    pub quiet: bool,
    /// How long things may wait; nothing is said of time if it is not there.
    #[serde(default)]
    pub patience: Option<Patience>,
}

/// How long an order may wait in each state before its deadline ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// For its goods.
    pub placed_ms: u64,
    /// For its payment.
    pub reserved_ms: u64,
    /// For its goods to be handed over.
    pub paid_ms: u64,
    /// How late a deadline may come. It may come as late as it likes if that is not said, such as where processes are killed.
    #[serde(default)]
    pub slack_ms: Option<u64>,
}

/// The least that must have happened. There is no default: a plan says what it was for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    /// Share of the requests outside of all faults that got a definite answer at once.
    pub acknowledged: f64,
    /// Orders that were confirmed.
    pub confirmed: u64,
    /// Requests whose first answer was lost and that were acknowledged in the end.
    pub recovered: u64,
    /// Messages that were published or delivered again.
    pub absorbed: u64,
    /// Faults, each with evidence that it bit.
    pub faults: u64,
}
