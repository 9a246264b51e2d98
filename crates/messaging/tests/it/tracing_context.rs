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

/// An unsampled trace stays unsampled, and its baggage arrives.
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
