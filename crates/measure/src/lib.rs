#![doc = include_str!("../README.md")]

mod machine;
mod measurement;
mod report;
mod scenario;
mod statistics;
mod turns;

pub use machine::Machine;
pub use measurement::{Aim, Check, Comparison, Measurement, Record, Side, Verdict};
pub use report::{Report, report};
pub use scenario::{Measuring, Scenario, When};
pub use statistics::{Ratios, quantile, quantile_of};
pub use turns::in_turn;
