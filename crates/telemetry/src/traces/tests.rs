//! A collector that does not work must cost nothing but the spans.

use std::{
    net::TcpListener,
    sync::{Arc, atomic::AtomicUsize},
};

use opentelemetry::trace::Tracer as _;
use opentelemetry_sdk::error::OTelSdkError;
use tokio::sync::Semaphore;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::{LogFormat, Telemetry, logs};

/// Far more spans than may wait.
const MANY: usize = 10 * QUEUE_SPANS;

fn emit(provider: &SdkTracerProvider, spans: usize) {
    let tracer = provider.tracer("test");
    for _ in 0..spans {
        drop(tracer.start("work"));
    }
}

/// Takes batches only while the gate is open.
#[derive(Debug)]
struct Gated {
    gate: Arc<Semaphore>,
    exported: Arc<AtomicUsize>,
}

impl SpanExporter for Gated {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let _open = self.gate.acquire().await;
        self.exported.fetch_add(batch.len(), Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn spans_never_wait_for_a_stuck_exporter_and_do_not_pile_up() {
    let (gate, exported) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let exporter = Gated { gate: Arc::clone(&gate), exported: Arc::clone(&exported) };
    let provider = provider(resource("test", "0"), 1.0, Some(batch(exporter)));

    // Returns although nothing is taken: if a span waited, this would hang.
    emit(&provider, MANY);
    assert_eq!(exported.load(Ordering::SeqCst), 0);

    gate.add_permits(1);
    provider.shutdown().unwrap();
    let kept = exported.load(Ordering::SeqCst);
    // What waited in the queue, and the batch that the exporter had in hand.
    assert!((QUEUE_SPANS..=QUEUE_SPANS + BATCH_SPANS).contains(&kept), "{kept} spans were kept");
}

/// Emits a lot and shuts down; a hang is the failure.
async fn work_and_stop(endpoint: &str) {
    let exporter = otlp(endpoint).unwrap();
    let provider = provider(resource("test", "0"), 1.0, Some(batch(exporter)));
    emit(&provider, MANY);
    let telemetry = Telemetry { provider, upkeep: tokio::task::JoinSet::new() };
    tokio::time::timeout(Duration::from_secs(60), telemetry.shutdown()).await.expect("shutdown hangs");
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_neither_work_nor_shutdown() {
    // The kernel accepts connections into the backlog; nobody ever reads them.
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    work_and_stop(&format!("http://{}", black_hole.local_addr().unwrap())).await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_up_neither_work_nor_shutdown() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    work_and_stop(&format!("http://{closed}")).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_a_mistake_in_the_configuration() {
    assert!(otlp("not an address").is_err());
}

/// Fails as long as it is told to.
#[derive(Debug)]
struct Failing(Arc<AtomicBool>);

impl SpanExporter for Failing {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        if self.0.load(Ordering::Relaxed) { Err(OTelSdkError::InternalFailure("down".to_owned())) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_collector_that_is_down_is_logged_once_and_once_when_it_is_back() {
    let buffer = logs::tests::Buffer::default();
    let subscriber = tracing_subscriber::registry().with(logs::layer("test", LogFormat::Human, buffer.clone()));
    let _logging = tracing::subscriber::set_default(subscriber);

    let down = Arc::new(AtomicBool::new(true));
    let exporter = Reported::new(Failing(Arc::clone(&down)), "http://collector");
    for _ in 0..3 {
        assert!(exporter.export(Vec::new()).await.is_err());
    }
    down.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        exporter.export(Vec::new()).await.unwrap();
    }
    let log = buffer.text();
    assert_eq!(log.matches("cannot be sent").count(), 1, "{log}");
    assert_eq!(log.matches("sent again").count(), 1, "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
}
