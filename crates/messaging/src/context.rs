//! Carries the trace from the request to the last effect: W3C trace context and baggage, through the outbox row and the message's headers.
//! The spans themselves are made in [`spans`].

pub(crate) mod spans;

use std::collections::BTreeMap;

use opentelemetry::{
    Context,
    baggage::BaggageExt as _,
    propagation::{Extractor, Injector},
    trace::{SpanContext, TraceContextExt as _},
};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// `traceparent`, `tracestate` and `baggage` of the moment when something was published. Empty where no tracing is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TraceContext(BTreeMap<String, String>);

/// What is carried, and how many bytes of it at most. All headers of a message have to be in one frame (`broker.rs`), and strangers may fill these. What is
/// longer is left out: W3C Baggage asks for 8192 bytes (§3.3.2), Trace Context for 512 of `tracestate` (§3.3.1.5).
const FIELDS: [(&str, usize); 3] = [("traceparent", 256), ("tracestate", 2048), ("baggage", 8192)];

/// The longest that all of them are together, names included.
pub(crate) const MAX_BYTES: usize = FIELDS[0].1 + FIELDS[1].1 + FIELDS[2].1 + 64;

fn is_carried(name: &str, value: &str) -> bool {
    FIELDS.iter().any(|(field, most)| name == *field && (value.len() <= *most || failpoints::without("carried-size")))
}

/// Of a dead letter that is tried again: the `traceparent` of whoever wanted that. It is stored beside the others and does not travel.
pub(crate) const REDRIVE: &str = "redrive";

impl TraceContext {
    /// The context of a span; unsampled ones too, so that the decision is made once.
    pub(crate) fn of(span: &Span) -> Self {
        if failpoints::without("trace-context") {
            return Self::default();
        }
        let context = span.context();
        let mut carrier = Self::default();
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
        carrier
    }

    pub(crate) fn from_headers<'a>(headers: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self(FIELDS.iter().filter_map(|(name, _)| Some(((*name).to_owned(), headers(name)?.to_owned()))).collect())
    }

    /// What travels.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, value)| is_carried(name, value))
    }

    pub(crate) fn trace_id(&self) -> Option<&str> {
        self.traceparent()?.split('-').nth(1)
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.0.get("traceparent").map(String::as_str)
    }

    fn restore(&self) -> Context {
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(self))
    }

    /// The span that this is the context of; not a valid one where no tracing was installed.
    fn origin(&self) -> SpanContext {
        self.restore().span().span_context().clone()
    }

    /// Makes a span a child of this context. Without a valid context it stays where it is: a trace must never stop a message.
    fn adopt(&self, span: &Span) {
        if !self.0.is_empty() {
            // Fails only where no OpenTelemetry layer is installed, and then there is no trace to continue.
            let _ = span.set_parent(self.restore());
        }
    }

    /// Makes a span the root of a trace of its own that links to this context; the baggage comes along.
    fn link(&self, span: &Span) {
        let origin = self.restore();
        let baggage = origin.baggage().iter().map(|(key, (value, metadata))| {
            opentelemetry::baggage::KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
        });
        let _ = span.set_parent(Context::new().with_baggage(baggage));
        span.add_link(origin.span().span_context().clone());
    }

    /// The span of whoever had this tried again after it was dead: `None` if nobody did, not a valid one if that was no part of a trace.
    fn redrive(&self) -> Option<SpanContext> {
        let traceparent = self.0.get(REDRIVE)?.clone();
        Some(Self(BTreeMap::from([("traceparent".to_owned(), traceparent)])).origin())
    }
}

impl Injector for TraceContext {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() && is_carried(key, &value) {
            self.0.insert(key.to_owned(), value);
        }
    }
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}
