//! Finished spans, kept in memory for tests (feature `testing`). Tests of one binary share one process, so select by
//! trace id, and make the trace id yourself: send a `traceparent`.

use std::sync::OnceLock;

use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{sql, traces};

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

/// Traces of this thread alone, with a sampling of their own and with SQL statements, until it is dropped: for tests whose runtime
/// has no other thread.
#[must_use = "it ends when it is dropped"]
pub struct Recording {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _subscriber: DefaultGuard,
}

impl Recording {
    /// `ratio` of the new traces are recorded.
    pub fn start(ratio: f64) -> Self {
        let exporter = InMemorySpanExporter::default();
        let processor = SimpleSpanProcessor::new(exporter.clone());
        let provider = traces::provider(traces::resource("test", "0"), ratio, Some(processor));
        let subscriber = tracing_subscriber::registry().with(traces::layer(&provider)).with(sql::layer(&provider));
        traces::install_propagators();
        Self { exporter, _subscriber: tracing::subscriber::set_default(subscriber), _provider: provider }
    }

    /// Every span that has finished, oldest first.
    #[must_use]
    pub fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap_or_default()
    }
}
