//! The recorder behind the `metrics` macros, rendered as Prometheus text. It opens no port: `web` serves the text.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::process;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// From half a millisecond (a cached read) to a minute and more (a retry that waited).
const SECONDS: [f64; 17] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Powers of four, for counts of things in one go: batch sizes, queue lengths.
const COUNTS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

/// Samples of histograms are buffered until they are sorted into buckets; when nobody scrapes, this bounds the buffer.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn install() -> Result<(), String> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .map_err(|error| error.to_string())?
        .install_recorder()
        .map_err(|error| error.to_string())?;
    process::describe();
    // The recorder can be installed once per process, so this is the first handle.
    let _first = HANDLE.set(handle);
    Ok(())
}

pub(crate) async fn upkeep() {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        if let Some(handle) = HANDLE.get() {
            handle.run_upkeep();
        }
    }
}

/// All metrics of this process in the Prometheus text format; empty before [`crate::init`].
#[must_use]
pub fn render_metrics() -> String {
    let Some(handle) = HANDLE.get() else {
        return String::new();
    };
    process::record();
    handle.render()
}
