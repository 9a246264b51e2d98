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

const FIELDS: [&str; 3] = ["traceparent", "tracestate", "baggage"];
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
        Self(FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), headers(name)?.to_owned()))).collect())
    }

    /// What travels.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        FIELDS.iter().filter_map(|name| Some((*name, self.0.get(*name)?.as_str())))
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
        if FIELDS.contains(&key) && !value.is_empty() {
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
