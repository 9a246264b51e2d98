//! `cargo dev bench`: what things cost, in release builds, each measured in turn with what it is compared to. Absolute times are this
//! machine's; ratios of one run are what to quote.

mod load;
mod receiver;
mod statistics;
mod telemetry;

use anyhow::Result;

use crate::{engines::Given, test};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bench {
    /// From a commit to its effect when nothing else goes on, beside the bare engines.
    Latency,
    /// The whole shop with and without traces, and with a collector that is silent.
    Telemetry,
}

/// Measures what is named, or everything.
pub(crate) async fn run(engines: Given, what: &[Bench], pairs: usize) -> Result<bool> {
    let wanted = |bench| what.is_empty() || what.contains(&bench);
    let mut fine = true;
    if wanted(Bench::Latency) {
        fine &= test::bench(engines.clone()).await?;
    }
    if wanted(Bench::Telemetry) {
        telemetry::run(engines, pairs).await?;
    }
    Ok(fine)
}
