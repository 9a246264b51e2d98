//! Finished spans, kept in memory for tests (feature `testing`). Tests of one binary share one process, so select by
//! trace id, and make the trace id yourself: send a `traceparent`.

use std::sync::OnceLock;

use opentelemetry_sdk::trace::{InMemorySpanExporter, SimpleSpanProcessor};

pub use opentelemetry_sdk::trace::SpanData;

static EXPORTER: OnceLock<InMemorySpanExporter> = OnceLock::new();

fn exporter() -> &'static InMemorySpanExporter {
    EXPORTER.get_or_init(InMemorySpanExporter::default)
}

pub(crate) fn processor() -> SimpleSpanProcessor<InMemorySpanExporter> {
    SimpleSpanProcessor::new(exporter().clone())
}

/// Every span that has finished since [`crate::init_for_tests`], oldest first.
#[must_use]
pub fn spans() -> Vec<SpanData> {
    exporter().get_finished_spans().unwrap_or_default()
}

/// The finished spans of one trace, given as 32 hex digits.
#[must_use]
pub fn spans_of(trace_id: &str) -> Vec<SpanData> {
    let mut spans = spans();
    spans.retain(|span| span.span_context.trace_id().to_string() == trace_id);
    spans
}
