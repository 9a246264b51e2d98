//! The recorder behind the `metrics` macros, rendered as Prometheus text. It opens no port: `web` serves the text.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{process, scrape};

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
    describe_traces();
    // The recorder can be installed once per process, so this is the first handle.
    let _first = HANDLE.set(handle);
    Ok(())
}

/// The exporter counts; from here on both numbers exist, so that a first loss is an increase.
fn describe_traces() {
    use metrics::{counter, describe_counter};
    describe_counter!("telemetry_spans_exported_total", "Spans that the collector has taken.");
    describe_counter!("telemetry_spans_lost_total", "Spans that the collector did not take; they are gone.");
    counter!("telemetry_spans_exported_total").increment(0);
    counter!("telemetry_spans_lost_total").increment(0);
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
    scrape::record_all();
    handle.render()
}
