//! The spans of this crate, with the names of the OpenTelemetry messaging conventions (v1.44, still in development), which are used here and
//! in no other file.
//!
//! A destination is named by the type of the event (`messaging.destination.template`): the routing key adds only the lane. There are no
//! spans for acknowledgements and for receiving: one of each for each message would say nothing that `process` does not.

use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use super::TraceContext;
use crate::{
    broker::Address,
    consumer::TraceMode,
    envelope::Envelope,
    event,
    topology::{EVENTS_EXCHANGE, REPLAY_EXCHANGE},
};

/// Contexts that a window links to; a long list helps nobody who reads a trace.
const MAX_LINKS: usize = 64;

/// The span of an event's creation (PRODUCER): what a consumer's span is a child of.
pub(crate) fn create(event_type: &str, message_id: Uuid, key: &str) -> Span {
    let routing_key = event::routing_key(event_type, event::lane(key));
    info_span!(
        "create",
        otel.name = format!("create {event_type}"),
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "create",
        messaging.operation.name = "create",
        messaging.destination.template = event_type,
        messaging.destination.name = format!("{EVENTS_EXCHANGE}:{routing_key}"),
        messaging.rabbitmq.destination.routing_key = routing_key,
        messaging.message.id = %message_id,
        postrider.key = key,
    )
}

/// Where a message was taken from.
pub(crate) struct Source<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) broker: &'a Address,
    /// None for one that was parked: it comes from Postgres.
    pub(crate) delivery_tag: Option<u64>,
}

/// The span of one handling of one message (CONSUMER): a child of the message's creation, or the root of a trace that links to it. If the
/// message was dead and somebody had it tried again, it links to that as well.
pub(crate) fn process(source: &Source<'_>, envelope: &Envelope, mode: TraceMode) -> Span {
    let (exchange, routing_key) = if envelope.replayed {
        (REPLAY_EXCHANGE, event::routing_key(source.consumer, envelope.lane()))
    } else {
        (EVENTS_EXCHANGE, event::routing_key(&envelope.event_type, envelope.lane()))
    };
    let redrive = envelope.context.redrive();
    let span = info_span!(
        parent: None,
        "process",
        otel.name = format!("process {}", envelope.event_type),
        otel.kind = "consumer",
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.operation.name = "process",
        messaging.destination.template = envelope.event_type,
        messaging.destination.name = format!("{exchange}:{routing_key}:{}", source.queue),
        messaging.rabbitmq.destination.routing_key = routing_key,
        messaging.rabbitmq.message.delivery_tag = source.delivery_tag.and_then(|tag| i64::try_from(tag).ok()),
        messaging.consumer.group.name = source.consumer,
        messaging.message.id = %envelope.message_id,
        server.address = source.broker.host,
        server.port = i64::from(source.broker.port),
        postrider.key = envelope.key,
        postrider.seq = envelope.seq,
        postrider.attempt = i64::from(envelope.attempt),
        postrider.replayed = envelope.replayed.then_some(true),
        postrider.redriven = redrive.is_some().then_some(true),
        postrider.outcome = Empty,
    );
    match mode {
        TraceMode::Parent => envelope.context.adopt(&span),
        TraceMode::Link => envelope.context.link(&span),
    }
    if let Some(redrive) = redrive {
        span.add_link(redrive);
    }
    span
}

/// The span of a window on its way to the broker (CLIENT). The messages carry the contexts of their creation and not this one, which links to
/// each of those that are recorded, up to a limit.
pub(crate) fn send<'a>(exchange: &str, broker: &Address, window: impl Iterator<Item = &'a Envelope>) -> Span {
    let envelopes: Vec<_> = window.collect();
    let single = match envelopes[..] {
        [envelope] if exchange == EVENTS_EXCHANGE => Some(envelope),
        _ => None,
    };
    let routing_key = single.map(|envelope| event::routing_key(&envelope.event_type, envelope.lane()));
    let destination = routing_key.as_ref().map_or_else(|| exchange.to_owned(), |key| format!("{exchange}:{key}"));
    let span = info_span!(
        "send",
        otel.name = format!("send {exchange}"),
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.operation.name = "send",
        messaging.destination.template = exchange,
        messaging.destination.name = destination,
        messaging.rabbitmq.destination.routing_key = routing_key,
        // One message is no batch.
        messaging.batch.message_count = single.is_none().then(|| i64::try_from(envelopes.len()).unwrap_or(i64::MAX)),
        messaging.message.id = single.map(|envelope| envelope.message_id.to_string()),
        server.address = broker.host,
        server.port = i64::from(broker.port),
        postrider.held = Empty,
    );
    let origins: Vec<_> = envelopes.iter().take(MAX_LINKS).map(|envelope| envelope.context.origin()).collect();
    let recorded = origins.iter().filter(|origin| origin.is_sampled()).count();
    // Where nothing is recorded, one link tells the sampler so.
    let linked = origins.into_iter().filter(|origin| origin.is_sampled() || recorded == 0);
    for origin in linked.take(recorded.max(1)) {
        span.add_link(origin);
    }
    span
}

/// The span of one attempt at a job, a child of what enqueued it.
pub(crate) fn job(task: &str, id: Uuid, attempt: u32, context: &TraceContext) -> Span {
    let span = info_span!(
        "perform",
        otel.name = format!("perform {task}"),
        otel.kind = "internal",
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        postrider.task = task,
        postrider.job = %id,
        postrider.attempt = i64::from(attempt),
    );
    context.adopt(&span);
    span
}

/// The span of looking at the broker's topology: the requests to its management API are in it.
pub(crate) fn verify(service: &str) -> Span {
    info_span!("verify topology", otel.status_code = Empty, otel.status_description = Empty, error.type = Empty, postrider.service = service)
}

/// The span of a request to the management API (CLIENT, conventions for HTTP). `url` is without user and password.
pub(crate) fn management_request(url: &reqwest::Url) -> Span {
    info_span!(
        "GET",
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        http.request.method = "GET",
        http.response.status_code = Empty,
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
        url.full = url.as_str(),
    )
}

/// Marks a span as failed: of which kind, and in words.
pub(crate) fn fail(span: &Span, kind: &str, description: &str) {
    span.record("otel.status_code", "error");
    span.record("otel.status_description", description);
    span.record("error.type", kind);
}
