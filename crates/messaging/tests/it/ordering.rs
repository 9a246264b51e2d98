//! Order per key, from the commit to the effect.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use messaging::Relay;
use testkit::eventually;
use tokio::task::JoinSet;

use crate::support::*;

/// Switches: `one-per-key` (the relay), `key-lanes` (the consumer).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_key_holds_with_four_relays_three_consumers_and_deaths() {
    const KEYS: i64 = 12;
    const STEPS: i64 = 60;
    let stage = stage().await;
    let start_relay = || Running::relay(&Relay::with_options(&stage.outbox, &another_broker(&stage), relay_options()));
    let start_consumer = || Running::consumer(&consumer(&another_broker(&stage), &stage.outbox, Record::always()));
    let mut relays: Vec<_> = (0..4).map(|_| start_relay()).collect();
    let mut consumers: Vec<_> = (0..3).map(|_| start_consumer()).collect();

    // Each key has a writer of its own, so that the order of its commits is known.
    let mut writers = JoinSet::new();
    let done = Arc::new(AtomicBool::new(false));
    for key in 0..KEYS {
        let outbox = stage.outbox.clone();
        writers.spawn(async move {
            for step in 1..=STEPS {
                publish(&outbox, &format!("p-{key}"), step).await;
            }
        });
    }
    let killing = async {
        for _ in 0..3 {
            eventually("something is in flight", async || done.load(Ordering::SeqCst) || pending(&stage).await > 20)
                .await;
            relays.remove(0).kill().await;
            consumers.remove(0).kill().await;
            relays.push(start_relay());
            consumers.push(start_consumer());
        }
    };
    let writing = async {
        while writers.join_next().await.transpose().unwrap().is_some() {}
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(killing, writing);

    eventually("every effect is there", async || effects(&stage).await >= KEYS * STEPS).await;
    eventually("the outbox is empty", async || pending(&stage).await == 0).await;
    for key in 0..KEYS {
        assert_eq!(steps(&stage, &format!("p-{key}")).await, (1..=STEPS).collect::<Vec<_>>(), "key {key}");
    }
    for consumer in consumers {
        consumer.stop().await;
    }
    for relay in relays {
        relay.stop().await;
    }
}

/// A refused event holds its key; what is behind it never passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_a_refused_event_of_its_key() {
    let stage = stage().await;
    // Room for two: what follows is nacked, key by key.
    stage.vhost.set_policy("parcels", serde_json::json!({ "max-length": 2, "overflow": "reject-publish" })).await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    for step in 1..=10 {
        for key in 0..8 {
            publish(&stage.outbox, &format!("p-{key}"), step).await;
        }
    }
    eventually("the queue refuses", async || {
        relay.run_once().await.unwrap();
        stage.count("select count(*) from messaging.outbox_hold where reason = 'nacked'").await > 0
    })
    .await;
    stage.vhost.clear_policy().await;
    stage.outbox.retry_held().await.unwrap();
    let flow = Flow::start(&stage, Record::always());
    eventually("every effect is there", async || effects(&stage).await == 80).await;
    flow.settle(&stage).await;
    for key in 0..8 {
        assert_eq!(steps(&stage, &format!("p-{key}")).await, (1..=10).collect::<Vec<_>>());
    }
}
