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
