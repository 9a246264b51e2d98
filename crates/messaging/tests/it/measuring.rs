//! What an operator sees of a message's way.

use messaging::{Backlog, Event as _, HandlerError};
use testkit::eventually;

use crate::support::*;

/// The sum of the series of this name that carry all of these labels.
fn sum(name: &str, labels: &[&str]) -> f64 {
    let text = telemetry::render_metrics();
    let series = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// Switch: `counting`. Other tests of the same process count on the same series: what is asserted is by how much they grow at least.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_a_message_is_counted() {
    telemetry::init_for_tests();
    let mut stage = stage().await;
    let record = Record::when(|event, attempt| match (event.parcel_id.as_str(), attempt) {
        ("shaky", 1) => Err(HandlerError::retry("not yet")),
        ("lost", _) => Err(HandlerError::reject("it is not to be")),
        _ => Ok(()),
    });
    let dead = format!("type=\"{}\"", ParcelMoved::TYPE);
    let counted = || {
        [
            ("confirmed", sum("messaging_broker_answers_total", &["answer=\"confirmed\""])),
            ("unheard", sum("messaging_broker_answers_total", &["answer=\"unheard\""])),
            ("published", sum("messaging_published_total", &[])),
            ("dwell", sum("messaging_dwell_seconds_count", &[])),
            ("received", sum("messaging_received_total", &[])),
            ("transit", sum("messaging_transit_seconds_count", &[])),
            ("handled", sum("messaging_handled_total", &[])),
            ("end to end", sum("messaging_end_to_end_seconds_count", &[])),
            ("calls", sum("messaging_handler_duration_seconds_count", &[&dead])),
            ("parked", sum("messaging_parked_total", &["cause=\"failure\""])),
            ("retries", sum("messaging_retries_total", &[])),
            ("dead", sum("messaging_dead_total", &[&dead])),
            ("absorbed", sum("messaging_absorbed_total", &[])),
        ]
    };
    let before = counted();
    for parcel in ["steady", "shaky", "lost"] {
        publish(&stage.outbox, parcel, 1).await;
    }
    let flow = Flow::start(&stage, record);
    eventually("two have their effect", async || effects(&stage).await == 2).await;
    eventually("one is dead", async || parked(&stage, "dead").await == 1).await;
    eventually("all is sent", async || pending(&stage).await == 0).await;
    send_everything_again(&stage).await;
    // Behind the copies, whatever lane they are in.
    for parcel in ["steady", "shaky", "lost"] {
        publish(&stage.outbox, parcel, 2).await;
    }
    eventually("the later ones are there", async || effects(&stage).await == 4).await;
    eventually("the later one is dead", async || parked(&stage, "dead").await == 2).await;
    flow.settle(&stage).await;

    let at_least = [9.0, 4.0, 13.0, 13.0, 9.0, 9.0, 4.0, 4.0, 8.0, 2.0, 2.0, 2.0, 3.0];
    for ((what, before), ((_, after), least)) in before.into_iter().zip(counted().into_iter().zip(at_least)) {
        assert!(after - before >= least, "{what} grew from {before} to {after}, not by {least}");
    }
    stage.expect_leftovers();
}

/// What an alert looks at. Relays of other tests of the same process set the same gauges, every few seconds: hence again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_nowhere_has_an_age() {
    telemetry::init_for_tests();
    let mut stage = stage().await;
    let hour = "interval '1 hour'";
    let ages = async |what: &str, expected: [f64; 2]| {
        eventually(what, async || {
            stage.outbox.measure().await.unwrap();
            let ages =
                ["messaging_scheduled_late_seconds", "messaging_parked_oldest_age_seconds"].map(|name| sum(name, &[]));
            ages.iter().zip(expected).all(|(age, expected)| (expected..expected + 300.0).contains(age))
        })
        .await;
    };
    ages("nothing waits", [0.0, 0.0]).await;

    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish_at(&moved("later", 1), chrono::Utc::now() + chrono::TimeDelta::hours(1)).unwrap();
    tx.publish_at(&moved("late", 1), chrono::Utc::now() + chrono::TimeDelta::hours(1)).unwrap();
    tx.commit().await.unwrap();
    ages("nothing is due", [0.0, 0.0]).await;
    stage.execute(&format!("update messaging.scheduled set due_at = now() - {hour} where key = 'late'")).await;
    ages("one is late", [3600.0, 0.0]).await;
    stage.execute("delete from messaging.scheduled").await;

    let record = Record::when(|_, _| Err(HandlerError::retry("not yet")));
    let patient = messaging::RetryPolicy::exponential(std::time::Duration::from_secs(600));
    let flow = Flow::start_with(&stage, consumer(&stage.broker, &stage.outbox, record).retry(patient));
    publish(&stage.outbox, "p-1", 1).await;
    eventually("it is parked", async || parked(&stage, "waiting").await == 1).await;
    flow.stop().await;
    stage.execute(&format!("update messaging.parked set parked_at = parked_at - 2 * {hour}")).await;
    ages("one gets nowhere", [0.0, 7200.0]).await;
    stage.execute("update messaging.parked set state = 'dead', next_attempt_at = null, died_at = now()").await;
    ages("what is dead does not wait", [0.0, 0.0]).await;
    stage.expect_leftovers();
}

/// The net below the queues is a subscription like any other: an alert sees when nobody holds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_net_that_nobody_holds_is_seen() {
    telemetry::init_for_tests();
    let stage = stage().await;
    let flow = Flow::start(&stage, Record::always());
    let up = || sum("messaging_consumer_up", &["queue=\"parcels.dead\""]);
    eventually("it is held", async || up() == 1.0).await;
    stage.vhost.delete_queue("parcels.dead").await;
    eventually("nobody holds it", async || up() == 0.0).await;
    stage.vhost.import().await;
    eventually("it is held again", async || up() == 1.0).await;
    flow.settle(&stage).await;
}

#[tokio::test]
async fn what_waits_for_the_broker_is_known_to_whoever_takes_requests() {
    let mut stage = stage().await;
    assert_eq!(stage.outbox.backlog(), Backlog::default(), "nothing is known before it is measured");
    for (parcel, number) in [("one", 1), ("one", 2), ("two", 1)] {
        publish(&stage.outbox, parcel, number).await;
    }
    stage.execute("update messaging.outbox set occurred_at = occurred_at - interval '1 hour'").await;
    stage.outbox.measure().await.unwrap();
    let Backlog { oldest, pending } = stage.outbox.backlog();
    assert_eq!((pending, oldest.as_secs() / 60), (3, 60));
    // Whoever shares the outbox knows it, on whatever connections.
    assert_eq!(stage.outbox.on(stage.outbox.pool().clone()).backlog().pending, 3);
    stage.execute("delete from messaging.outbox").await;
    stage.outbox.measure().await.unwrap();
    assert_eq!(stage.outbox.backlog(), Backlog::default());
    stage.expect_leftovers();
}
