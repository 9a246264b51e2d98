//! Events with a time.

use chrono::{TimeDelta, Utc};
use messaging::Relay;
use testkit::eventually;

use crate::support::*;

/// Switch: `schedule`. Time is stepped by moving what is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_event_comes_when_due_and_survives_a_restart() {
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish_at(&moved("p-1", 2), Utc::now() + TimeDelta::hours(1)).unwrap();
    tx.publish(&moved("p-1", 1)).unwrap();
    tx.commit().await.unwrap();

    let flow = Flow::start(&stage, Record::always());
    eventually("what is not scheduled arrives", async || steps(&stage, "p-1").await.contains(&1)).await;
    flow.settle(&stage).await;
    assert_eq!(steps(&stage, "p-1").await, [1]);

    // Everything that ran is gone; the event is where it was.
    publish(&stage.outbox, "p-1", 3).await;
    let flow = Flow::start(&stage, Record::always());
    eventually("a later one arrives", async || steps(&stage, "p-1").await == [1, 3]).await;
    stage.execute("update messaging.scheduled set due_at = now()").await;
    eventually("it comes when it is due", async || steps(&stage, "p-1").await == [1, 3, 2]).await;
    flow.settle(&stage).await;
    // Its number is that of its turn, so nothing here is late.
    assert_eq!(stage.count("select count(*) from effect where late").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_event_of_a_rolled_back_transaction_never_comes() {
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish_at(&moved("p-1", 1), Utc::now() - TimeDelta::hours(1)).unwrap();
    drop(tx);
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    assert_eq!(relay.run_once().await.unwrap().published, 0);
    assert_eq!(stage.count("select count(*) from messaging.scheduled").await, 0);
}

/// A deadline does not wait behind a parked message of its key: it is what ends the waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_does_not_wait_behind_a_parked_message() {
    let mut stage = stage().await;
    let record =
        Record::when(|event, _| if event.step == 1 { Err(messaging::HandlerError::retry("not yet")) } else { Ok(()) });
    let patient = messaging::RetryPolicy::exponential(std::time::Duration::from_secs(600));
    let flow = Flow::start_with(&stage, consumer(&stage.broker, &stage.outbox, record).retry(patient));
    publish(&stage.outbox, "p-1", 1).await;
    eventually("it is parked", async || parked(&stage, "waiting").await == 1).await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish_at(&moved("p-1", 2), Utc::now()).unwrap();
    tx.commit().await.unwrap();
    eventually("the deadline has its effect", async || steps(&stage, "p-1").await == [2]).await;
    flow.settle(&stage).await;
    stage.expect_leftovers();
}

/// The inbox remembers by the time in the id, for a month: an event that was scheduled for later than that would be too old when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_scheduled_event_is_of_the_time_when_it_is_due() {
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    let far = tx.publish_at(&moved("p-1", 1), Utc::now() + TimeDelta::days(40)).unwrap();
    let past = tx.publish_at(&moved("p-2", 1), Utc::now() - TimeDelta::days(40)).unwrap();
    let beyond = tx.publish_at(&moved("p-3", 1), chrono::DateTime::<Utc>::MAX_UTC).unwrap();
    drop(tx);
    let days = |id: uuid::Uuid| {
        (i64::try_from(id.get_timestamp().unwrap().to_unix().0).unwrap() - Utc::now().timestamp()) / 86_400
    };
    assert!((39..=40).contains(&days(far)));
    assert_eq!(days(past), 0, "what is overdue comes now");
    assert!(days(beyond) > 3_000_000, "an id ends in the year 10889");
}
