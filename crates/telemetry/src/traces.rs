//! From `tracing` spans to a collector, and the ids of the current span. Which spans exist is not decided here:
//! `web` and `messaging` make them.

use std::{
    collections::HashMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue, global,
    propagation::TextMapCompositePropagator,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor},
};
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::sampling::sampler;

/// Finished spans that wait for the exporter, at most. Further ones are dropped: memory is bounded and nobody waits.
const QUEUE_SPANS: usize = 4_096;
const BATCH_SPANS: usize = 512;
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// One export, retries included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) fn resource(service: &'static str, version: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.version", version),
            KeyValue::new("service.instance.id", crate::instance_id()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .build()
}

/// An exporter that connects when there is something to send. Must be built inside the tokio runtime that drives it.
pub(crate) fn otlp(endpoint: &str) -> Result<Reported<opentelemetry_otlp::SpanExporter>, ExporterBuildError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    Ok(Reported::new(exporter, endpoint))
}

/// Exports in batches on a thread of its own, fed by a bounded queue.
pub(crate) fn batch(exporter: impl SpanExporter + 'static) -> BatchSpanProcessor {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS)
        .with_max_export_batch_size(BATCH_SPANS)
        .with_scheduled_delay(EXPORT_EVERY)
        .build();
    BatchSpanProcessor::builder(exporter).with_batch_config(config).build()
}

/// Without a processor spans still get their ids, so that logs and answers carry them.
pub(crate) fn provider(
    resource: Resource,
    ratio: f64,
    processor: Option<impl SpanProcessor + 'static>,
) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler(ratio));
    match processor {
        Some(processor) => builder.with_span_processor(processor).build(),
        None => builder.build(),
    }
}

/// Turns `tracing` spans into OpenTelemetry spans. Its filter is independent of `RUST_LOG`: quieter logs must not cut traces.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // The exporter's own HTTP/2 stack must not be traced: its spans would cause further exports. Statements are spans, not events. lapin
    // reports returned messages with their content.
    let ours = Targets::new().with_default(Level::INFO).with_targets(
        ["h2", "hyper", "hyper_util", "lapin", "sqlx", "tonic", "tower"]
            .map(|target| (target, tracing::level_filters::LevelFilter::OFF)),
    );
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("postrider"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        // A warning that mentions an error is no failed span; events of level error are.
        .with_error_events_to_status(false)
        .with_filter(ours)
}

/// Makes the provider and the W3C propagators those of the process.
pub(crate) fn install(provider: &SdkTracerProvider) {
    global::set_tracer_provider(provider.clone());
    install_propagators();
}

/// Traces travel as W3C `traceparent`, `tracestate` and `baggage`.
pub(crate) fn install_propagators() {
    global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]));
}

/// The current span's trace id, 32 hex digits; `None` outside a span.
pub fn current_trace_id() -> Option<String> {
    current_ids().map(|(trace_id, _)| trace_id)
}

/// The current span's context as a W3C `traceparent` header; `None` outside a span.
pub fn traceparent() -> Option<String> {
    let mut headers = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&Context::current(), &mut headers));
    headers.remove("traceparent")
}

/// Trace id and span id of the current span. Taken from the OpenTelemetry context, which is there whatever the log filter says.
pub(crate) fn current_ids() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    })
}

/// Says once when the collector cannot be reached and once when it is back, instead of at every batch; counts the spans that were lost.
pub(crate) struct Reported<E> {
    exporter: E,
    endpoint: String,
    failing: AtomicBool,
}

impl<E> Reported<E> {
    fn new(exporter: E, endpoint: &str) -> Self {
        Self { exporter, endpoint: endpoint.to_owned(), failing: AtomicBool::new(false) }
    }
}

impl<E> fmt::Debug for Reported<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reported").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.exporter.export(batch).await;
        let was_failing = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) => {
                metrics::counter!("telemetry_spans_exported_total").increment(spans);
                if was_failing {
                    tracing::info!(collector = %self.endpoint, "traces are sent again");
                }
            }
            Err(error) => {
                metrics::counter!("telemetry_spans_lost_total").increment(spans);
                if !was_failing {
                    tracing::warn!(collector = %self.endpoint, %error, "traces cannot be sent and are lost; everything else goes on");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
