//! What the spans say and how they hang together, and that whether a trace is recorded is decided once. Each test has a runtime without
//! other threads, so that the traces it sees are its own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use messaging::{
    Consumer, ConsumerOptions, Event as _, HandlerError, Job, OutboxTransaction, Outcome, Replay, Task, TaskError,
    TraceMode, Worker,
};
use opentelemetry::{
    Value,
    propagation::TextMapPropagator as _,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use telemetry::testing::{Recording, SpanData};
use testkit::{Stage, eventually};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use crate::support::*;

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|found| found.value.clone())
}

/// The only span of this name.
fn one(recording: &Recording, name: &str) -> SpanData {
    let found: Vec<_> = recording.spans().into_iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:#?}");
    found[0].clone()
}

/// `key` fails until it is opened, for good.
fn gate(key: &'static str) -> (Record, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&open);
    let record = Record::when(move |event, _| {
        let shut = event.parcel_id == key && !seen.load(Ordering::SeqCst);
        if shut { Err(HandlerError::reject("not yet")) } else { Ok(()) }
    });
    (record, open)
}

#[tokio::test]
async fn spans_have_the_names_and_attributes_of_the_conventions() {
    let recording = Recording::start(1.0);
    let stage = stage().await;
    let request = tracing::info_span!("request");
    let id = publish(&stage.outbox, "p-1", 1).instrument(request).await;
    let flow = Flow::start(&stage, Record::always());
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;

    let lane = messaging::lane("p-1");
    let routing_key = format!("parcels.v1.ParcelMoved.{lane}");
    let port: i64 = reqwest::Url::parse(&stage.vhost.amqp_url).unwrap().port().unwrap().into();
    let create = one(&recording, "create parcels.v1.ParcelMoved");
    let process = one(&recording, "process parcels.v1.ParcelMoved");
    let sends: Vec<_> = recording.spans().into_iter().filter(|span| span.name == "send events").collect();
    let send =
        sends.iter().find(|send| attribute(send, "messaging.message.id") == Some(id.to_string().into())).unwrap();
    for (span, kind, operation, destination) in [
        (&create, SpanKind::Producer, "create", format!("events:{routing_key}")),
        (send, SpanKind::Client, "send", format!("events:{routing_key}")),
        (&process, SpanKind::Consumer, "process", format!("events:{routing_key}:parcels")),
    ] {
        assert_eq!(span.span_kind, kind);
        for (key, value) in [
            ("messaging.system", "rabbitmq".to_owned()),
            ("messaging.operation.type", operation.to_owned()),
            ("messaging.operation.name", operation.to_owned()),
            ("messaging.destination.name", destination.clone()),
            ("messaging.rabbitmq.destination.routing_key", routing_key.clone()),
            ("messaging.message.id", id.to_string()),
        ] {
            assert_eq!(attribute(span, key), Some(value.into()), "{key} of {}", span.name);
        }
        assert_eq!(attribute(span, "messaging.batch.message_count"), None, "one message is no batch");
    }
    for span in [send, &process] {
        assert_eq!(attribute(span, "server.address"), Some("127.0.0.1".into()));
        assert_eq!(attribute(span, "server.port"), Some(port.into()));
    }
    assert_eq!(attribute(&process, "messaging.rabbitmq.message.delivery_tag"), Some(1.into()));
    assert_eq!(attribute(&process, "error.type"), None);
    assert_eq!(send.parent_span_id, SpanId::INVALID, "the relay's window is a trace of its own");
    assert_eq!(
        send.links.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>(),
        [create.span_context.span_id()]
    );

    // What the handler did in the database is inside of its span.
    let statements = recording.spans();
    let insert = statements.iter().find(|span| span.name == "INSERT effect").expect("the statement of the handler");
    assert_eq!(insert.parent_span_id, process.span_context.span_id());
    let roots = statements.iter().filter(|span| span.parent_span_id == SpanId::INVALID);
    let polls: Vec<_> = roots.filter(|root| attribute(root, "db.system.name").is_some()).collect();
    assert!(polls.is_empty(), "polling leaves traces: {polls:#?}");
}

#[tokio::test]
async fn a_window_of_several_events_is_one_span_that_links_to_each_and_says_how_many() {
    let recording = Recording::start(1.0);
    let stage = stage().await;
    for parcel in ["p-1", "p-2", "p-3"] {
        publish(&stage.outbox, parcel, 1).instrument(tracing::info_span!("request")).await;
    }
    // With the leases of production: however slow the machine is, they last.
    let relay = messaging::Relay::new(&stage.outbox, &stage.broker);
    assert_eq!(relay.run_once().await.unwrap().published, 3);
    let send = one(&recording, "send events");
    assert_eq!(attribute(&send, "messaging.batch.message_count"), Some(3.into()));
    assert_eq!(attribute(&send, "messaging.destination.name"), Some("events".into()));
    let spans = recording.spans();
    let created: Vec<_> = spans.iter().filter(|span| span.name.starts_with("create")).collect();
    let linked: Vec<_> = send.links.iter().map(|link| link.span_context.span_id()).collect();
    assert!(created.len() == 3 && created.iter().all(|span| linked.contains(&span.span_context.span_id())));
}

#[tokio::test]
async fn in_link_mode_the_handling_is_a_trace_of_its_own_that_links_to_the_creation() {
    let recording = Recording::start(1.0);
    let stage = stage().await;
    publish(&stage.outbox, "p-1", 1).instrument(request("01")).await;
    let linking = consumer(&stage.broker, &stage.outbox, Record::always()).trace_mode(TraceMode::Link);
    let flow = Flow::start_with(&stage, linking);
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;

    let (create, process) =
        (one(&recording, "create parcels.v1.ParcelMoved"), one(&recording, "process parcels.v1.ParcelMoved"));
    assert_ne!(process.span_context.trace_id(), create.span_context.trace_id());
    assert_eq!(process.parent_span_id, SpanId::INVALID);
    let links: Vec<_> = process.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(links, [create.span_context.span_id()]);
    let next = one(&recording, "create parcels.v1.ParcelSeen");
    assert_eq!(next.parent_span_id, process.span_context.span_id(), "what follows is a part of the new trace");
    let baggage =
        "select count(*) from messaging.journal where type like '%Seen' and context ->> 'baggage' = 'tenant=north'";
    assert_eq!(stage.count(baggage).await, 1, "the baggage comes along");
}

/// Whether a trace of its own is recorded was decided at the creation, whatever the ratio says.
#[tokio::test]
async fn in_link_mode_too_the_creation_decides_whether_the_handling_is_recorded() {
    for (ratio, flags) in [(0.0, "01"), (1.0, "00")] {
        let recording = Recording::start(ratio);
        let stage = stage().await;
        publish(&stage.outbox, "p-1", 1).instrument(request(flags)).await;
        let linking = consumer(&stage.broker, &stage.outbox, Record::always()).trace_mode(TraceMode::Link);
        let flow = Flow::start_with(&stage, linking);
        eventually("the effect is there", async || effects(&stage).await == 1).await;
        flow.settle(&stage).await;
        let recorded = recording.spans().iter().any(|span| span.name == "process parcels.v1.ParcelMoved");
        assert_eq!(recorded, flags == "01", "ratio {ratio}, flags {flags}");
    }
}

#[tokio::test]
async fn a_redriven_message_stays_in_its_trace_and_links_to_who_had_it_redriven() {
    let recording = Recording::start(1.0);
    let stage = stage().await;
    let (record, open) = gate("p-1");
    let consumer = consumer(&stage.broker, &stage.outbox, record);
    let letters = consumer.dead_letters();
    let flow = Flow::start_with(&stage, consumer);
    let id = publish(&stage.outbox, "p-1", 1).instrument(request("01")).await;
    eventually("it is dead", async || parked(&stage, "dead").await == 1).await;
    let listed = letters.list(&messaging::Filter::default(), 10).await.unwrap();
    assert_eq!(listed[0].trace_id.as_deref(), Some(TRACE), "a dead letter names its trace");

    open.store(true, Ordering::SeqCst);
    let decision = tracing::info_span!("decision");
    assert!(letters.retry(id, "ada").instrument(decision).await.unwrap());
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;

    let (create, decision) = (one(&recording, "create parcels.v1.ParcelMoved"), one(&recording, "decision"));
    let spans = recording.spans();
    let tries: Vec<_> = spans.iter().filter(|span| span.name == "process parcels.v1.ParcelMoved").collect();
    let [failed, redriven] = tries[..] else { panic!("{tries:#?}") };
    for attempt in [failed, redriven] {
        assert_eq!(attempt.parent_span_id, create.span_context.span_id());
        assert_eq!(attempt.span_context.trace_id().to_string(), TRACE);
    }
    assert_eq!(attribute(failed, "error.type"), Some("reject".into()));
    assert_eq!(failed.status, Status::error("not yet"));
    assert!(failed.links.is_empty());
    assert_eq!(attribute(redriven, "postrider.redriven"), Some(true.into()));
    assert_eq!(redriven.status, Status::Unset);
    let links: Vec<_> = redriven.links.iter().map(|link| link.span_context.clone()).collect();
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].span_id(), decision.span_context.span_id());
    assert_ne!(decision.span_context.trace_id().to_string(), TRACE);
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A request that somebody else has decided about.
fn request(flags: &str) -> tracing::Span {
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
    let headers: HashMap<String, String> =
        [("traceparent", &*traceparent), ("tracestate", "vendor=x"), ("baggage", "tenant=north")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    let context = TraceContextPropagator::new().extract(&headers);
    let context = BaggagePropagator::new().extract_with_context(&context, &headers);
    let request = tracing::info_span!("request");
    request.set_parent(context).unwrap();
    request
}

/// Announces that it was done.
struct Announce;

impl Task for Announce {
    const NAME: &'static str = "announce";
    type Done = ();

    async fn perform(&self, _: &Job) -> Result<(), TaskError> {
        Ok(())
    }

    async fn record(&self, job: &Job, _: Outcome<()>, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        tx.publish(&ParcelSeen { parcel_id: job.id.to_string() })?;
        Ok(())
    }
}

/// An event at once, one for later, one that fails at first, one that dies and is redriven, a job, and a replay to a consumer that has
/// forgotten everything.
async fn everything_that_can_happen_to_an_event(stage: &Stage, flags: &str) {
    let record = Record::when(|event, attempt| match event.parcel_id.as_str() {
        "retried" if attempt == 1 => Err(HandlerError::retry("once more")),
        "dead" if event.step == 1 => Err(HandlerError::reject("never")),
        _ => Ok(()),
    });
    // One transaction each: what fails has no others with it that are handled again.
    let options = ConsumerOptions { batch: 1, ..consumer_options() };
    let consumer: Consumer = consumer(&stage.broker, &stage.outbox, record).options(options);
    let letters = consumer.dead_letters();
    let worker = Running::worker(&Worker::new(&stage.outbox, Announce).poll(Duration::from_millis(20)));
    let flow = Flow::start_with(stage, consumer);
    let dead = async {
        let mut tx = stage.outbox.begin().await.unwrap();
        tx.publish(&moved("plain", 1)).unwrap();
        tx.publish_at(&moved("later", 1), chrono::Utc::now()).unwrap();
        tx.publish(&moved("retried", 1)).unwrap();
        let dead = tx.publish(&moved("dead", 1)).unwrap();
        tx.enqueue(Announce::NAME, Uuid::now_v7());
        tx.commit().await.unwrap();
        dead
    }
    .instrument(request(flags))
    .await;
    eventually("three have their effect, one is dead", async || {
        effects(stage).await == 3 && parked(stage, "dead").await == 1
    })
    .await;
    let mended = prost::Message::encode_to_vec(&moved("dead", 2));
    assert!(letters.edit_and_retry(dead, &mended, "ada").await.unwrap());
    eventually("the redriven one has its effect", async || effects(stage).await == 4).await;
    let announced = "select count(*) from messaging.journal where type like '%Seen'";
    eventually("what follows is announced, that of the job too", async || stage.count(announced).await == 5).await;

    stage.execute("delete from messaging.inbox").await;
    stage.outbox.replay(&stage.broker, &Replay::to("parcels").types([ParcelMoved::TYPE]).key("plain")).await.unwrap();
    eventually("the replayed one has its effect again", async || effects(stage).await == 5).await;
    worker.stop().await;
    flow.settle(stage).await;
}

#[tokio::test]
async fn whether_a_trace_is_recorded_is_decided_once_and_kept_on_every_way() {
    // Each against what the ratio says.
    for (ratio, flags) in [(0.0, "01"), (1.0, "00")] {
        let recording = Recording::start(ratio);
        let stage = stage().await;
        everything_that_can_happen_to_an_event(&stage, flags).await;

        let kept = format!(
            "select count(*) from messaging.journal
             where context ->> 'traceparent' like '00-{TRACE}-%-{flags}' and context ->> 'tracestate' = 'vendor=x'
               and context ->> 'baggage' = 'tenant=north'"
        );
        // Four published, and what followed from each handling and from the job.
        assert_eq!(stage.count(&kept).await, 10, "flags {flags}");
        assert_eq!(stage.count("select count(*) from messaging.journal").await, 10, "there is nothing else");

        let spans = recording.spans();
        let ours = spans.iter().filter(|span| span.span_context.trace_id().to_string() == TRACE);
        let ours: Vec<_> = ours.filter(|span| attribute(span, "db.system.name").is_none()).collect();
        let count = |name: &str| ours.iter().filter(|span| span.name == name).count();
        let counts = ["request", "create parcels.v1.ParcelMoved", "process parcels.v1.ParcelMoved", "perform announce"];
        let counts = counts.map(count);
        // Handled: plain twice (replay), later, retried twice, dead twice.
        let wanted = if flags == "01" { [1, 4, 7, 1] } else { [0, 0, 0, 0] };
        assert_eq!(counts, wanted, "ratio {ratio}, flags {flags}: {ours:#?}");
        let sent = spans.iter().any(|span| span.name.starts_with("send "));
        assert_eq!(sent, flags == "01", "a window is recorded when something in it is");
    }
}
