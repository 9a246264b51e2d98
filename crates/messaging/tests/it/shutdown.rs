//! Stopping in order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use messaging::{Handler, HandlerError, OutboxTransaction};
use testkit::eventually;

use crate::support::*;

/// Says when it is in the middle of its work, and takes its time.
struct Slow {
    begun: Arc<AtomicBool>,
    release: Arc<tokio::sync::Notify>,
}

impl Handler<ParcelMoved> for Slow {
    async fn handle(&self, event: ParcelMoved, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        self.begun.store(true, Ordering::SeqCst);
        self.release.notified().await;
        Record::always().handle(event, tx).await
    }
}

/// Switch: `drain`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_finishes_what_is_in_hand() {
    let stage = stage().await;
    let (begun, release) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
    let handler = Slow { begun: begun.clone(), release: release.clone() };
    let consumer = messaging::Consumer::new("parcels", &stage.broker, &stage.outbox)
        .options(messaging::ConsumerOptions {
            handler_deadline: std::time::Duration::from_secs(60),
            ..consumer_options()
        })
        .on(handler);
    let flow = Flow::start_with(&stage, consumer);
    publish(&stage.outbox, "p-1", 1).await;
    eventually("it is in hand", async || begun.load(Ordering::SeqCst)).await;

    let stopping = flow.stop();
    let releasing = async {
        // The stop has been asked for; what is in hand goes on all the same.
        tokio::task::yield_now().await;
        release.notify_one();
    };
    tokio::join!(stopping, releasing);
    assert_eq!(effects(&stage).await, 1, "what was in hand is committed");
    // The effect's own event was published by the relay or waits for the next one.
    let flow = Flow::start(&stage, Record::always());
    publish(&stage.outbox, "p-1", 2).await;
    eventually("the next one arrives", async || steps(&stage, "p-1").await == [1, 2]).await;
    flow.settle(&stage).await;
    let queue = stage.vhost.get(&format!("queues/{}/parcels", stage.vhost.name)).await;
    assert_eq!(queue["message_stats"]["redeliver"].as_i64().unwrap_or(0), 0, "it was acknowledged");
}

/// The answer to the last request has promised its event: it does not wait for the next process, while the broker is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_before_the_stop_is_sent() {
    let stage = stage().await;
    for step in 1..=10 {
        let relay = Running::relay(&messaging::Relay::with_options(&stage.outbox, &stage.broker, relay_options()));
        publish(&stage.outbox, "p-0", 2 * step).await;
        eventually("it works", async || pending(&stage).await == 0).await;
        publish(&stage.outbox, "p-1", 2 * step + 1).await;
        relay.stop().await;
        assert_eq!(pending(&stage).await, 0, "in round {step}");
    }
}
