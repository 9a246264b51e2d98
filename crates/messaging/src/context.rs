//! Carries the trace from the request to the last effect: W3C trace context and baggage, through the outbox row and the message's headers.
//!
//! The names of the OpenTelemetry messaging conventions (v1.44, still in development) are used here and in no other file.

use std::collections::BTreeMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector},
};
use serde::{Deserialize, Serialize};
use tracing::{Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::envelope::Envelope;

/// `traceparent`, `tracestate` and `baggage` of the moment when something was published. Empty where no tracing is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TraceContext(BTreeMap<String, String>);

const FIELDS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

impl TraceContext {
    /// The context of a span; unsampled ones too, so that the decision is made once.
    pub(crate) fn of(span: &Span) -> Self {
        if crate::mutants::without("trace-context") {
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn trace_id(&self) -> Option<&str> {
        self.0.get("traceparent")?.split('-').nth(1)
    }

    fn restore(&self) -> Context {
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(self))
    }

    /// Makes a span a child of this context. Without a valid context it stays where it is: a trace must never stop a message.
    fn adopt(&self, span: &Span) {
        if !self.0.is_empty() {
            // Fails only where no OpenTelemetry layer is installed, and then there is no trace to continue.
            let _ = span.set_parent(self.restore());
        }
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

/// The span of an event's creation (PRODUCER): what a consumer's span is a child of.
pub(crate) fn create_span(event_type: &str, message_id: uuid::Uuid, key: &str) -> Span {
    info_span!(
        "create",
        otel.name = format!("create {event_type}"),
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "create",
        messaging.operation.name = "create",
        messaging.destination.name = format!("{}:{event_type}", crate::topology::EVENTS_EXCHANGE),
        messaging.message.id = %message_id,
        postrider.key = key,
    )
}

/// The span of one handling of one message (CONSUMER), a child of the message's creation.
pub(crate) fn process_span(consumer: &str, envelope: &Envelope) -> Span {
    let span = info_span!(
        "process",
        otel.name = format!("process {}", envelope.event_type),
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        error.r#type = field::Empty,
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.operation.name = "process",
        messaging.destination.name =
            format!("{}:{}:{consumer}", crate::topology::EVENTS_EXCHANGE, envelope.event_type),
        messaging.consumer.group.name = consumer,
        messaging.message.id = %envelope.message_id,
        postrider.key = envelope.key,
        postrider.seq = envelope.seq,
        postrider.attempt = envelope.attempt,
        postrider.outcome = field::Empty,
    );
    envelope.context.adopt(&span);
    span
}

/// The span of a relay's window (CLIENT). It is not injected; it links to each creation.
pub(crate) fn send_span<'a>(contexts: impl Iterator<Item = &'a TraceContext>, count: usize) -> Span {
    use opentelemetry::trace::TraceContextExt as _;
    let span = info_span!(
        parent: None,
        "send",
        otel.name = format!("send {}", crate::topology::EVENTS_EXCHANGE),
        otel.kind = "client",
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.operation.name = "send",
        messaging.destination.name = crate::topology::EVENTS_EXCHANGE,
        messaging.batch.message_count = count,
    );
    for context in contexts {
        let creation = context.restore().span().span_context().clone();
        // A batch that holds nothing sampled would otherwise collect links for nobody.
        if creation.is_sampled() {
            span.add_link(creation);
        }
    }
    span
}

/// The span of one attempt at a job, a child of what enqueued it.
pub(crate) fn job_span(task: &str, id: uuid::Uuid, attempt: u32, context: &TraceContext) -> Span {
    let span = info_span!(
        "perform",
        otel.name = format!("perform {task}"),
        otel.kind = "internal",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        postrider.task = task,
        postrider.job = %id,
        postrider.attempt = attempt,
    );
    context.adopt(&span);
    span
}

/// Marks a span as failed.
pub(crate) fn fail(span: &Span, description: &str) {
    span.record("otel.status_code", "error");
    span.record("otel.status_description", description);
}
