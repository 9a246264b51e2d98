//! From the delivery to the effect.

use messaging::{Consumer, Handler, HandlerError, OutboxTransaction};
use testkit::eventually;

use crate::support::*;

/// Switch: `inbox`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_runs_the_handler_once() {
    let stage = stage().await;
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counting = Record::when({
        let calls = calls.clone();
        move |_, _| {
            calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
    });
    publish(&stage.outbox, "p-1", 1).await;
    let flow = Flow::start(&stage, counting);
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    for _ in 0..3 {
        eventually("the outbox is empty", async || pending(&stage).await == 0).await;
        stage.execute("delete from messaging.journal where type like '%Moved' and ctid not in (select min(ctid) from messaging.journal where type like '%Moved')").await;
        send_everything_again(&stage).await;
    }
    // A later message of the same key passes only after the copies.
    publish(&stage.outbox, "p-1", 2).await;
    eventually("the later one is there", async || steps(&stage, "p-1").await.contains(&2)).await;
    flow.settle(&stage).await;
    assert_eq!(steps(&stage, "p-1").await, [1, 2]);
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 2);
}

/// Switch: `atomic-effect`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_handler_leaves_no_rows_and_no_events() {
    let mut stage = stage().await;
    publish(&stage.outbox, "p-1", 1).await;
    let flow = Flow::start(&stage, Record::when(|_, _| Err(HandlerError::reject("it is not to be"))));
    eventually("the message is dead", async || parked(&stage, "dead").await == 1).await;
    flow.settle(&stage).await;
    assert_eq!(effects(&stage).await, 0);
    assert_eq!(stage.count("select count(*) from messaging.journal where type like '%Seen'").await, 0);
    assert_eq!(stage.count("select count(*) from messaging.inbox").await, 0);
    stage.expect_leftovers();
}

/// Runs a statement that fails and goes on as if nothing had happened.
struct SwallowsErrors;

impl Handler<ParcelMoved> for SwallowsErrors {
    async fn handle(&self, event: ParcelMoved, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        if event.parcel_id == "swallowed" {
            let _ = sqlx::query("select 1 / 0").execute(&mut **tx).await;
        } else {
            Record::always().handle(event, tx).await?;
        }
        Ok(())
    }
}

/// Switch: `commit-check`. Postgres answers COMMIT of a failed transaction with ROLLBACK, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_sql_error_never_looks_committed() {
    let mut stage = stage().await;
    publish(&stage.outbox, "swallowed", 1).await;
    publish(&stage.outbox, "p-1", 1).await;
    let consumer = Consumer::new("parcels", &stage.broker, &stage.outbox)
        .options(consumer_options())
        .retry(quick_retry())
        .on(SwallowsErrors);
    let flow = Flow::start_with(&stage, consumer);
    eventually("the other one has its effect", async || effects(&stage).await == 1).await;
    eventually("it is dead, with the reason", async || {
        stage.count("select count(*) from messaging.parked where state = 'dead' and reason like '%aborted%'").await == 1
    })
    .await;
    flow.settle(&stage).await;
    stage.expect_leftovers();
}

/// What a handler of the same batch did before the failing one is not lost either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_message_of_a_batch_does_not_cost_its_neighbours() {
    let mut stage = stage().await;
    for n in 0..100 {
        publish(&stage.outbox, &format!("p-{n}"), n).await;
    }
    let record = Record::when(|event, _| if event.step == 50 { Err(HandlerError::reject("50")) } else { Ok(()) });
    let flow = Flow::start(&stage, record);
    eventually("99 effects", async || effects(&stage).await == 99).await;
    flow.settle(&stage).await;
    assert_eq!(parked(&stage, "dead").await, 1);
    assert_eq!(stage.count("select count(distinct parcel_id) from effect").await, 99);
    stage.expect_leftovers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_a_hang_are_failures_like_any_other() {
    let mut stage = stage().await;
    struct Wild;
    impl Handler<ParcelMoved> for Wild {
        async fn handle(&self, event: ParcelMoved, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
            match event.parcel_id.as_str() {
                "panics" => panic!("as told"),
                "hangs" => std::future::pending().await,
                _ => Record::always().handle(event, tx).await,
            }
        }
    }
    for parcel in ["panics", "hangs", "p-1"] {
        publish(&stage.outbox, parcel, 1).await;
    }
    let options =
        messaging::ConsumerOptions { handler_deadline: std::time::Duration::from_millis(200), ..consumer_options() };
    let consumer =
        Consumer::new("parcels", &stage.broker, &stage.outbox).options(options).retry(quick_retry()).on(Wild);
    let flow = Flow::start_with(&stage, consumer);
    eventually("two are dead", async || parked(&stage, "dead").await == 2).await;
    eventually("the third has its effect", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;
    let reasons = stage.count(
        "select count(*) from messaging.parked where reason like '%panicked: as told' or reason like '%longer than%'",
    );
    assert_eq!(reasons.await, 2);
    stage.expect_leftovers();
}

/// A deadlock is nobody's fault: the same again, at once, without an attempt spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again_at_once() {
    let stage = stage().await;
    stage.execute("create sequence tries").await;
    struct Deadlocks;
    impl Handler<ParcelMoved> for Deadlocks {
        async fn handle(&self, event: ParcelMoved, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
            let tries: i64 = sqlx::query_scalar("select nextval('tries')").fetch_one(&mut **tx).await?;
            if tries <= 2 {
                sqlx::query("do $$ begin raise exception 'as if' using errcode = 'deadlock_detected'; end $$")
                    .execute(&mut **tx)
                    .await?;
            }
            Record::always().handle(event, tx).await
        }
    }
    publish(&stage.outbox, "p-1", 1).await;
    let consumer = Consumer::new("parcels", &stage.broker, &stage.outbox)
        .options(consumer_options())
        .retry(quick_retry())
        .on(Deadlocks);
    let flow = Flow::start_with(&stage, consumer);
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;
    assert_eq!(stage.count("select max(attempt) from effect").await, 1);
}

/// Switch: `ack-order`. Lanes that finish at the same moment acknowledge in order: out of order, the broker closes the channel, and everything in
/// hand comes again. What comes again leaves a mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_finish_together_do_not_cost_the_channel() {
    const EVENTS: i64 = 4_000;
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    for n in 0..EVENTS {
        tx.publish(&moved(&format!("p-{}", n % 400), n / 400 + 1)).unwrap();
    }
    tx.commit().await.unwrap();
    let flow = Flow::start(&stage, Record::always());
    eventually("every effect is there", async || effects(&stage).await == EVENTS).await;
    flow.settle(&stage).await;
    // Counters of the server come with a delay.
    let marks = "select coalesce(sum(n_tup_ins), 0)::bigint from pg_stat_user_tables where schemaname = 'messaging' and relname = ";
    eventually("the counters are there", async || stage.count(&format!("{marks} 'consumer_head'")).await >= 400).await;
    assert_eq!(stage.count(&format!("{marks} 'in_hand'")).await, 0, "something was delivered again");
}
