//! The journal, and who needs it.

use messaging::{Event as _, Relay, Replay, journal};
use testkit::eventually;

use crate::support::*;

/// Switch: `replay`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_never_there_gets_its_events_by_replay() {
    let stage = stage().await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    for step in 1..=300 {
        publish(&stage.outbox, &format!("p-{}", step % 5), step).await;
    }
    while relay.run_once().await.unwrap().published > 0 {}
    // The queue and all that was in it is lost: the consumer is as new.
    stage.vhost.delete_queue("parcels").await;
    stage.vhost.import().await;

    let flow = Flow::start(&stage, Record::always());
    let sent = stage.outbox.replay(&stage.broker, &Replay::to("parcels").types([ParcelMoved::TYPE])).await.unwrap();
    assert_eq!(sent, 300);
    eventually("every effect is there", async || effects(&stage).await == 300).await;
    // Again: nothing happens twice.
    stage.outbox.replay(&stage.broker, &Replay::to("parcels").types([ParcelMoved::TYPE]).key("p-1")).await.unwrap();
    publish(&stage.outbox, "p-1", 1000).await;
    eventually("what came after the second replay is there", async || steps(&stage, "p-1").await.last() == Some(&1000))
        .await;
    flow.settle(&stage).await;
    assert_eq!(effects(&stage).await, 301);
    for key in 0..5 {
        let steps = steps(&stage, &format!("p-{key}")).await;
        assert!(steps.is_sorted(), "{steps:?}");
    }
}

/// It also brings what its consumer never asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_everything_leaves_no_dead_letters() {
    let stage = stage().await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish(&ParcelSeen { parcel_id: "p-1".into() }).unwrap();
    tx.commit().await.unwrap();
    publish(&stage.outbox, "p-1", 2).await;
    while relay.run_once().await.unwrap().published > 0 {}
    stage.vhost.delete_queue("parcels").await;
    stage.vhost.import().await;

    let flow = Flow::start(&stage, Record::always());
    assert_eq!(stage.outbox.replay(&stage.broker, &Replay::to("parcels")).await.unwrap(), 2);
    eventually("the effect is there", async || effects(&stage).await == 1).await;
    flow.settle(&stage).await;
    assert_eq!(stage.count("select count(*) from messaging.parked").await, 0);
    assert_eq!(stage.count("select count(*) from messaging.inbox").await, 1, "a handler that comes later is to get it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_a_consumer_that_does_not_exist_says_so() {
    let stage = stage().await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    publish(&stage.outbox, "p-1", 1).await;
    relay.run_once().await.unwrap();
    let error = stage.outbox.replay(&stage.broker, &Replay::to("nobody")).await.unwrap_err();
    assert!(error.to_string().contains("Unroutable"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_content_is_gone_from_the_journal_and_from_replays() {
    let stage = stage_with(&[ParcelMoved::TYPE, ParcelSeen::TYPE]).await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish(&ParcelSeen { parcel_id: "p-1".into() }).unwrap();
    tx.publish(&ParcelSeen { parcel_id: "p-2".into() }).unwrap();
    tx.commit().await.unwrap();
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    relay.run_once().await.unwrap();

    let mut tx = stage.outbox.begin().await.unwrap();
    assert_eq!(journal::erase(&mut tx, "p-1").await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(stage.count("select count(*) from messaging.journal where key = 'p-1' and payload is null").await, 1);
    assert_eq!(stage.outbox.replay(&stage.broker, &Replay::to("parcels")).await.unwrap(), 1);
}

/// Whoever is erased while the broker is away was not in the journal yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_before_it_is_published_comes_into_the_journal_without_content() {
    let stage = stage_with(&[ParcelMoved::TYPE, ParcelSeen::TYPE]).await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish(&ParcelSeen { parcel_id: "p-1".into() }).unwrap();
    tx.publish(&ParcelSeen { parcel_id: "p-2".into() }).unwrap();
    tx.commit().await.unwrap();
    let mut tx = stage.outbox.begin().await.unwrap();
    assert_eq!(journal::erase(&mut tx, "p-1").await.unwrap(), 1);
    assert_eq!(journal::erase(&mut tx, "p-1").await.unwrap(), 0);
    tx.commit().await.unwrap();
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    assert_eq!(relay.run_once().await.unwrap().published, 2, "others hear of it all the same");
    assert_eq!(stage.count("select count(*) from messaging.journal where key = 'p-1' and payload is null").await, 1);
    assert_eq!(
        stage.count("select count(*) from messaging.journal where key = 'p-2' and payload is not null").await,
        1
    );
}

/// Partitions are made ahead and dropped when past; sensitive content goes earlier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn housekeeping_drops_what_is_past_its_retention_and_nothing_else() {
    let stage = stage().await;
    stage
        .execute(
            "create table messaging.journal_20200101 partition of messaging.journal for values from ('2020-01-01') to ('2020-01-02');
             create table messaging.inbox_20200101 partition of messaging.inbox
                 for values from (messaging.uuid_at('2020-01-01Z'::timestamptz)) to (messaging.uuid_at('2020-01-02Z'::timestamptz));
             create table messaging.inbox_20200102 partition of messaging.inbox
                 for values from (messaging.uuid_at('2020-01-02Z'::timestamptz)) to (messaging.uuid_at('2020-01-03Z'::timestamptz));
             insert into messaging.parked (consumer, message_id, producer, type, key, seq, payload, context, deadline, occurred_at, state)
                 values ('parcels', messaging.uuid_at('2020-01-02T12:00Z'::timestamptz), 'p', 't', 'k', 1, '', '{}', false, now(), 'dead');
             insert into messaging.journal (published_at, position, message_id, lane, type, key, seq, payload, context, sensitive, deadline, occurred_at)
                 values (now(), 1, gen_random_uuid(), 0, 't', 'k', 1, 'secret', '{}', true, false, now());",
        )
        .await;
    stage.outbox.keep_house().await.unwrap();
    let exists =
        async |table: &str| stage.count(&format!("select count(*) from pg_class where relname = '{table}'")).await == 1;
    assert!(!exists("journal_20200101").await);
    assert!(!exists("inbox_20200101").await);
    assert!(exists("inbox_20200102").await, "a parked message of that day may still have its effect");
    assert_eq!(
        stage.count("select count(*) from messaging.journal where payload is not null").await,
        1,
        "it is not a day old"
    );
    stage.execute("delete from messaging.parked").await;
}

/// Whoever comes after a statement that waits for such a lock waits behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upkeep_does_not_wait_for_a_long_look_at_its_tables_and_is_done_afterwards() {
    let stage = stage().await;
    let last = "messaging.inbox_' || to_char((now() at time zone 'utc')::date + 7, 'YYYYMMDD')";
    stage.execute(&format!("do $$ begin execute 'drop table {last}; end $$")).await;
    let mut dump = stage.outbox.begin().await.unwrap();
    sqlx::query("lock table messaging.inbox in access share mode").execute(&mut *dump).await.unwrap();
    let error = stage.outbox.keep_house().await.unwrap_err();
    assert!(error.to_string().contains("lock timeout"), "{error}");
    drop(dump);
    stage.outbox.keep_house().await.unwrap();
    assert_eq!(stage.count(&format!("select count(to_regclass('{last}))")).await, 1);
}

/// A view on an old partition keeps it, and nothing else; nor does one that somebody else made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_cannot_be_dropped_keeps_none_from_being_made() {
    let stage = stage().await;
    let last = "messaging.inbox_' || to_char((now() at time zone 'utc')::date + 7, 'YYYYMMDD')";
    stage
        .execute(&format!(
            "do $$ begin execute 'drop table {last}; end $$;
             create table messaging.journal_20200101 partition of messaging.journal for values from ('2020-01-01') to ('2020-01-02');
             create table messaging.journal_20200102 partition of messaging.journal for values from ('2020-01-02') to ('2020-01-03');
             create view report as select * from messaging.journal_20200101;
             create table messaging.journal_old partition of messaging.journal for values from ('2019-01-01') to ('2020-01-01')"
        ))
        .await;
    stage.outbox.keep_house().await.unwrap();
    let exists = async |table: &str| stage.count(&format!("select count(to_regclass({table}))")).await == 1;
    assert!(exists(&format!("'{last}")).await);
    assert!(exists("'messaging.journal_20200101'").await);
    assert!(exists("'messaging.journal_old'").await, "it is somebody else's");
    assert!(!exists("'messaging.journal_20200102'").await);
}

/// Nobody was there for so long that the days in store are used up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_makes_the_partition_of_today() {
    let stage = stage().await;
    let today = "messaging.inbox_' || to_char((now() at time zone 'utc')::date, 'YYYYMMDD')";
    stage.execute(&format!("do $$ begin execute 'drop table {today}; end $$")).await;
    stage.outbox.migrate().await.unwrap();
    assert_eq!(stage.count(&format!("select count(to_regclass('{today}))")).await, 1);
}
