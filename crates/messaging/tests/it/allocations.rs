//! How often a message may ask for memory on its way, beside the statements that `budgets.rs` counts. Each test has a thread of its own, where it counts what
//! this crate and sqlx do, and what lapin does for its callers (its own thread is not counted). What is said is the cost of one message more, so that connections and
//! statements, which are made once, do not matter. A budget leaves a quarter for what changes from run to run, such as how many messages are ready together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use messaging::Relay;
use testkit::Stage;
use tokio::{runtime::Runtime, sync::Notify};

use crate::support::*;

const FEW: usize = 200;
const MANY: usize = 1_000;

/// What one message more costs where so many are done by `work`, which is counted, after `prepare`, which is not.
fn of_one_more(runtime: &Runtime, mut prepare: impl AsyncFnMut(usize), mut work: impl AsyncFnMut(usize)) -> f64 {
    let mut count = |messages| {
        runtime.block_on(prepare(messages));
        allocation_counter::measure(|| runtime.block_on(work(messages))).count_total
    };
    // Connections, prepared statements and buffers.
    count(FEW);
    let (few, many) = (count(FEW), count(MANY));
    (many as f64 - few as f64) / (MANY - FEW) as f64
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One transaction with so many events.
async fn publish_together(stage: &Stage, events: usize) {
    let mut tx = stage.outbox.begin().await.unwrap();
    for n in 0..events {
        tx.publish(&moved(&format!("p-{n}"), 1)).unwrap();
    }
    tx.commit().await.unwrap();
}

#[track_caller]
fn within(budget: f64, cost: f64) {
    assert!((1.0..budget).contains(&cost), "{cost:.1} allocations for each message, {budget} are allowed");
}

#[test]
fn an_event_on_its_way_into_the_outbox() {
    let runtime = runtime();
    let mut stage = runtime.block_on(stage());
    stage.expect_leftovers();
    within(23.0, of_one_more(&runtime, async |_| {}, async |events| publish_together(&stage, events).await));
}

#[test]
fn an_event_on_its_way_from_the_outbox_to_the_broker() {
    let runtime = runtime();
    let stage = runtime.block_on(stage());
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let pending = async |events| publish_together(&stage, events).await;
    within(44.0, of_one_more(&runtime, pending, async |_| drain(&relay).await));
}

#[test]
fn an_event_on_its_way_to_its_effect_and_to_the_next_event() {
    let runtime = runtime();
    let mut stage = runtime.block_on(stage());
    stage.expect_leftovers();
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let queued = async |events| {
        publish_together(&stage, events).await;
        drain(&relay).await;
    };
    within(131.0, of_one_more(&runtime, queued, async |events| take(&stage, events).await));
}

async fn drain(relay: &Relay) {
    while relay.run_once().await.unwrap().published > 0 {}
}

/// Has a consumer take so many.
async fn take(stage: &Stage, messages: usize) {
    let (taken, done) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let last = Arc::clone(&done);
    let record = Record::when(move |_, _| {
        if taken.fetch_add(1, Ordering::Relaxed) + 1 == messages {
            last.notify_one();
        }
        Ok(())
    });
    let consumer = Running::consumer(&consumer(&stage.broker, &stage.outbox, record));
    done.notified().await;
    consumer.stop().await;
}
