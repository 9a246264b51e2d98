//! One trace, from the request to the last effect.

use testkit::eventually;
use tracing::Instrument as _;

use crate::support::*;

/// Switch: `trace-context`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_survives_from_the_request_to_the_next_event() {
    telemetry::init_for_tests();
    let stage = stage().await;
    let request = tracing::info_span!("request");
    let trace_id = async {
        publish(&stage.outbox, "p-1", 1).await;
        telemetry::current_trace_id().unwrap()
    }
    .instrument(request.clone())
    .await;
    drop(request);
    let flow = Flow::start(&stage, Record::always());
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;

    let spans = telemetry::testing::spans_of(&trace_id);
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        found[0].clone()
    };
    let (root, create) = (named("request"), named("create parcels.v1.ParcelMoved"));
    let (process, next) = (named("process parcels.v1.ParcelMoved"), named("create parcels.v1.ParcelSeen"));
    assert_eq!(create.parent_span_id, root.span_context.span_id());
    assert_eq!(process.parent_span_id, create.span_context.span_id());
    assert_eq!(next.parent_span_id, process.span_context.span_id());
    assert_eq!(create.span_kind, opentelemetry::trace::SpanKind::Producer);
    assert_eq!(process.span_kind, opentelemetry::trace::SpanKind::Consumer);

    // The relay's window is a trace of its own, linked to what it sent.
    let sends = telemetry::testing::spans();
    let linked = sends.iter().filter(|span| span.name == "send events").flat_map(|span| span.links.iter());
    assert!(linked.into_iter().any(|link| link.span_context.span_id() == create.span_context.span_id()));
}

/// A trace that is not sampled stays so, and its baggage travels with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsampled_trace_and_its_baggage_are_carried_too() {
    use opentelemetry::propagation::TextMapPropagator as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    telemetry::init_for_tests();
    let stage = stage().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let headers: std::collections::HashMap<String, String> =
        [("traceparent", traceparent), ("baggage", "tenant=north")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let context = opentelemetry_sdk::propagation::TraceContextPropagator::new().extract(&headers);
    let context = opentelemetry_sdk::propagation::BaggagePropagator::new().extract_with_context(&context, &headers);
    let request = tracing::info_span!("request");
    request.set_parent(context).unwrap();
    publish(&stage.outbox, "p-1", 1).instrument(request).await;

    let carried = "select count(*) from messaging.outbox where context ->> 'traceparent' like
         '00-4bf92f3577b34da6a3ce929d0e0e4736-%-00' and context ->> 'baggage' = 'tenant=north'";
    assert_eq!(stage.count(carried).await, 1);
    let flow = Flow::start(&stage, Record::always());
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;
    let next = "select count(*) from messaging.journal where type like '%Seen' and context ->> 'traceparent' like
         '00-4bf92f3577b34da6a3ce929d0e0e4736-%-00' and context ->> 'baggage' = 'tenant=north'";
    assert_eq!(stage.count(next).await, 1, "the next event carries on");
}

/// Strangers fill the headers of a request, and those of a message have to be in one frame: one that is too long would end the connection of
/// every relay that publishes it, for ever. Switch: `carried-size`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn baggage_that_is_too_long_stays_behind_and_stops_nothing() {
    use opentelemetry::{KeyValue, baggage::BaggageExt as _};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    telemetry::init_for_tests();
    let stage = stage().await;
    let request = tracing::info_span!("request");
    // Each quotation mark takes three bytes where it is carried.
    let baggage = opentelemetry::Context::new().with_baggage([KeyValue::new("a", "\"".repeat(8_000))]);
    request.set_parent(baggage).unwrap();
    publish(&stage.outbox, "p-1", 1).instrument(request).await;
    assert_eq!(stage.count("select count(*) from messaging.outbox where context ? 'traceparent'").await, 1);
    // As one that was stored when more was carried.
    publish(&stage.outbox, "p-2", 1).await;
    stage.execute("update messaging.outbox set context = jsonb_build_object('baggage', 'a=' || repeat('b', 24000)) where key = 'p-2'").await;
    let flow = Flow::start(&stage, Record::always());
    eventually("both have their effect", async || effects(&stage).await == 2).await;
    flow.settle(&stage).await;
}

/// A trace must never stop a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_without_a_valid_context_is_published_all_the_same() {
    let stage = stage().await;
    publish(&stage.outbox, "p-1", 1).await;
    stage.execute("update messaging.outbox set context = '{\"traceparent\": \"nonsense\"}'").await;
    publish(&stage.outbox, "p-2", 1).await;
    stage.execute("update messaging.outbox set context = '{}' where key = 'p-2'").await;
    let flow = Flow::start(&stage, Record::always());
    eventually("both have their effect", async || effects(&stage).await == 2).await;
    flow.settle(&stage).await;
}
