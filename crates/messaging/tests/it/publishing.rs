//! From the commit to the broker.

use messaging::{Audience, Broker, BrokerOptions, Event, Progress, PublishError, Relay};
use testkit::eventually;

use crate::support::*;

/// Switch: `rollback`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_publishes_nothing() {
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish(&moved("p-1", 1)).unwrap();
    drop(tx);
    publish(&stage.outbox, "p-2", 1).await;

    let flow = Flow::start(&stage, Record::always());
    eventually("the committed one arrives", async || effects(&stage).await >= 1).await;
    flow.settle(&stage).await;
    assert_eq!(steps(&stage, "p-1").await, [0_i64; 0]);
    assert_eq!(stage.count("select count(*) from messaging.journal where key = 'p-1'").await, 0);
}

/// Switch: `settle-after-confirm`. The connections are cut, and then the broker takes nothing for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_publishes_once_the_broker_is_back() {
    let stage = stage().await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let running = Running::relay(&relay);
    publish(&stage.outbox, "p-0", 1).await;
    eventually("the relay works", async || pending(&stage).await == 0).await;

    // A full queue that rejects: the nearest thing to a broker that is there and takes nothing.
    stage.vhost.set_policy("parcels", serde_json::json!({ "max-length": 1, "overflow": "reject-publish" })).await;
    // The queue hears of it a moment later.
    let mut before = 0;
    while before < 200 && stage.count("select count(*) from messaging.outbox_hold").await == 0 {
        before += 1;
        publish(&stage.outbox, &format!("before-{before}"), 1).await;
        eventually("the broker has answered", async || {
            pending(&stage).await == 0 || stage.count("select count(*) from messaging.outbox_hold").await > 0
        })
        .await;
    }
    let connections = async || stage.vhost.kill_connections().await;
    eventually("its connections are cut", async || connections().await > 0).await;
    for step in 1..=20 {
        publish(&stage.outbox, &format!("p-{step}"), 1).await;
    }
    eventually("the broker has refused some of them", async || {
        pending(&stage).await == 0 || stage.count("select count(*) from messaging.outbox_hold").await > 0
    })
    .await;
    stage.vhost.clear_policy().await;
    running.stop().await;

    let flow = Flow::start(&stage, Record::always());
    eventually("every effect is there", async || effects(&stage).await == 21 + before).await;
    flow.settle(&stage).await;
}

/// Switch: `inbox`. Both copies reach the consumer; the effect happens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_confirm_and_settle_sends_again_and_the_inbox_absorbs_it() {
    let stage = stage().await;
    publish(&stage.outbox, "p-1", 1).await;
    publish(&stage.outbox, "p-2", 1).await;
    let flow = Flow::start(&stage, Record::always());
    eventually("the effects are there", async || effects(&stage).await == 2).await;
    eventually("the outbox is empty", async || pending(&stage).await == 0).await;

    send_everything_again(&stage).await;
    publish(&stage.outbox, "p-3", 1).await;
    eventually("the third one is there", async || !steps(&stage, "p-3").await.is_empty()).await;
    eventually("the copies are sent", async || pending(&stage).await == 0).await;
    publish(&stage.outbox, "p-1", 2).await;
    publish(&stage.outbox, "p-2", 2).await;
    eventually("what came after the copies is there", async || effects(&stage).await >= 5).await;
    flow.settle(&stage).await;
    assert_eq!(steps(&stage, "p-1").await, [1, 2]);
    assert_eq!(steps(&stage, "p-2").await, [1, 2]);
}

/// Switch: `leases`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_never_work_one_lane_and_a_stalled_relays_lanes_move() {
    let mut stage = stage().await;
    let first = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let second = Relay::with_options(&stage.outbox, &another_broker(&stage), relay_options());
    let rounds = 200;
    for n in 0..rounds {
        publish(&stage.outbox, &format!("p-{n}"), 1).await;
    }
    // The first takes every lane, and stalls: it does not renew.
    let taken = first.run_once().await.unwrap().published;
    assert!(taken > 0);
    for n in 0..rounds {
        publish(&stage.outbox, &format!("p-{n}"), 2).await;
    }
    assert_eq!(second.run_once().await.unwrap(), Progress::default(), "it holds no lane, so it publishes nothing");

    eventually("the lanes move when the lease has passed", async || second.run_once().await.unwrap().published > 0)
        .await;
    while second.run_once().await.unwrap().published > 0 {}
    assert_eq!(pending(&stage).await, 0);
    assert_eq!(stage.count("select count(*) from messaging.journal").await, 2 * rounds);
    assert_eq!(
        stage.count("select count(distinct holder) from messaging.relay_lane where expires_at > now()").await,
        1,
        "the silent relay counts as dead"
    );
    stage.expect_leftovers();
}

/// Switch: `returns`, and `return-ids` for the neighbours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unroutable_event_is_held_and_its_neighbours_are_not_blamed() {
    // Bound by lane, so that one lane's binding can be taken away.
    let mut service = parcels(&[ParcelMoved::TYPE]);
    service.subscriptions[0].partitions = 2;
    let stage = testkit::Stage::new("parcels", &[service.clone()]).await;
    const UNBOUND: [i16; 4] = [4, 6, 8, 10];
    for lane in UNBOUND {
        stage.vhost.unbind("parcels.0", &format!("parcels.v1.ParcelMoved.{lane}")).await;
    }
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());

    // Large windows and many of them: lapin pins a return on the wrong confirm only now and then.
    const BATCHES: i32 = 16;
    let mut unroutable = 0;
    for batch in 0..BATCHES {
        let mut tx = stage.outbox.begin().await.unwrap();
        for n in batch * 500..(batch + 1) * 500 {
            let key = format!("p-{n}");
            unroutable += i64::from(UNBOUND.contains(&messaging::lane(&key)));
            tx.publish(&moved(&key, 1)).unwrap();
        }
        tx.commit().await.unwrap();
        relay.run_once().await.unwrap();
    }
    while relay.run_once().await.unwrap().published > 0 {}

    assert!(unroutable > 1000);
    let count = async |what: &str| stage.count(&format!("select count(*) from {what}")).await;
    assert_eq!(pending(&stage).await, unroutable);
    assert_eq!(count("messaging.outbox where lane not in (4, 6, 8, 10)").await, 0);
    assert!(count("messaging.outbox_hold where reason = 'unroutable'").await > 0);
    assert_eq!(count("messaging.outbox_hold where reason <> 'unroutable' or lane not in (4, 6, 8, 10)").await, 0);

    // The binding appears, and what was held goes out by itself.
    stage.vhost.import().await;
    stage.outbox.retry_held().await.unwrap();
    eventually("what was held is published", async || {
        relay.run_once().await.unwrap();
        pending(&stage).await == 0
    })
    .await;
    assert_eq!(stage.count("select count(*) from messaging.outbox_hold").await, 0);
}

/// Of a type that is not this service's own: its user may not publish it.
#[derive(Clone, PartialEq, prost::Message)]
struct Forged {
    #[prost(string, tag = "1")]
    parcel_id: String,
}

impl Event for Forged {
    const TYPE: &'static str = "others.v1.ParcelMoved";
    const AUDIENCE: Audience = Audience::Required;
    const SENSITIVE: bool = false;
    fn key(&self) -> &str {
        &self.parcel_id
    }
}

/// Switch: `halves`. The broker closes the channel over one event, whatever else is in flight on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_costs_the_channel_is_held_and_its_neighbours_flow() {
    let mut stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    for n in 0..500 {
        let parcel_id = format!("p-{n}");
        tx.publish(&moved(&parcel_id, 1)).unwrap();
        if n % 100 == 50 {
            tx.publish(&Forged { parcel_id: parcel_id.clone() }).unwrap();
            tx.publish(&moved(&parcel_id, 2)).unwrap();
            tx.publish(&Forged { parcel_id: format!("f-{n}") }).unwrap();
        }
    }
    tx.commit().await.unwrap();

    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    while relay.run_once().await.unwrap().published > 0 {}

    let count = async |what: &str| stage.count(&format!("select count(*) from {what}")).await;
    assert_eq!(count("messaging.journal").await, 500);
    assert_eq!(count("messaging.outbox where type = 'others.v1.ParcelMoved'").await, 10);
    assert_eq!(pending(&stage).await, 15, "the forged ones, and what comes after them under their keys");
    assert_eq!(count("messaging.outbox_hold where reason = 'refused'").await, 10);
    assert_eq!(count("messaging.outbox_hold").await, 10);
    stage.expect_leftovers();
}

/// Switch: `channel-numbers`. A connection has a number for so many channels, and lapin loses one each time that the broker closes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_channels_the_broker_closes_there_is_one_to_publish_on() {
    let mut stage = stage().await;
    const CHANNELS: usize = 20;
    let url = format!("{}?channel_max={CHANNELS}", stage.vhost.url_for("parcels"));
    let broker = Broker::connect(BrokerOptions::new(url, "parcels").unwrap());
    let relay = Relay::with_options(&stage.outbox, &broker, relay_options());
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish(&Forged { parcel_id: "f-1".into() }).unwrap();
    tx.commit().await.unwrap();
    for _ in 0..3 * CHANNELS {
        stage.outbox.retry_held().await.unwrap();
        // Some of it fails while the connection is made anew.
        let _ = relay.run_once().await;
    }
    publish(&stage.outbox, "p-1", 1).await;
    eventually("the next one is published", async || {
        let _ = relay.run_once().await;
        stage.count("select count(*) from messaging.journal where key = 'p-1'").await == 1
    })
    .await;
    stage.expect_leftovers();
}

/// Then it is no event's fault, and none is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_publish_nothing_holds_nothing() {
    let stage = stage().await;
    stage.vhost.forbid_publishing("parcels").await;
    for n in 0..20 {
        publish(&stage.outbox, &format!("p-{n}"), 1).await;
    }
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let refused = relay.run_once().await.unwrap_err().to_string();
    assert!(refused.contains("access to exchange 'events'"), "{refused}");
    assert_eq!(stage.count("select count(*) from messaging.outbox_hold").await, 0);
    assert_eq!(pending(&stage).await, 20);

    stage.vhost.import().await;
    eventually("all of them are published", async || {
        relay.run_once().await.unwrap();
        pending(&stage).await == 0
    })
    .await;
}

/// A backlog of large events is taken in parts that fit into a small process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_hand_is_bounded_in_bytes_too() {
    let stage = stage().await;
    const LABEL: usize = 250 * 1024;
    for n in 0..200 {
        let mut tx = stage.outbox.begin().await.unwrap();
        tx.publish(&ParcelMoved { label: vec![7; LABEL], ..moved(&format!("p-{n}"), 1) }).unwrap();
        tx.commit().await.unwrap();
    }
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let mut published = 0;
    while published < 200 {
        let Progress { published: some, held, left } = relay.run_once().await.unwrap();
        assert_eq!(held, 0);
        assert!(some > 0, "one of each lane always goes");
        // 8 MiB, and up to one event more of each of the 16 lanes.
        assert!((some + left) * LABEL <= (8 + 4) * 1024 * 1024, "{some} published and {left} left");
        published += some;
    }
    assert_eq!(stage.count("select count(*) from messaging.journal").await, 200);
    assert_eq!(pending(&stage).await, 0);
}

/// An event that may go unheard counts as published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_event_without_subscribers_is_published() {
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.publish(&ParcelSeen { parcel_id: "p-1".into() }).unwrap();
    tx.commit().await.unwrap();
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    assert_eq!(relay.run_once().await.unwrap(), Progress { published: 1, held: 0, left: 0 });
}

/// Switch: `confirm-deadline`. The broker is silent in the middle of a window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirm_that_never_comes_settles_nothing_of_the_window() {
    let mut stage = stage().await;
    let proxy = testkit::AmqpProxy::start(&stage.vhost.url_for("parcels")).await;
    let broker = Broker::connect(BrokerOptions::new(proxy.url(), "parcels").unwrap());
    let relay = Relay::with_options(&stage.outbox, &broker, relay_options());
    publish(&stage.outbox, "p-0", 1).await;
    assert_eq!(relay.run_once().await.unwrap().published, 1);

    for n in 1..=30 {
        publish(&stage.outbox, &format!("p-{n}"), 1).await;
    }
    // Everything reaches the broker, nothing comes back from now on but the opening of the channel.
    proxy.swallow_confirms();
    let lost = relay.run_once().await;
    assert!(proxy.swallowed() > 0, "the fault bit");
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(pending(&stage).await, 30, "the fate of the whole window is unknown");

    proxy.heal();
    eventually("the same ids are published again", async || {
        let _ = relay.run_once().await;
        pending(&stage).await == 0
    })
    .await;
    let queue = || async {
        stage.vhost.get(&format!("queues/{}/parcels", stage.vhost.name)).await["messages"].as_i64().unwrap_or(0)
    };
    eventually("the broker has both copies", async || queue().await >= 61).await;
    let flow = Flow::start(&stage, Record::always());
    eventually("each has its effect once", async || effects(&stage).await == 31).await;
    flow.settle(&stage).await;
    assert_eq!(effects(&stage).await, 31);
    stage.expect_leftovers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_or_has_no_proper_key_is_refused_before_the_commit() {
    let stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    let large = ParcelMoved { label: vec![0; messaging::MAX_PAYLOAD_BYTES], ..moved("p-1", 1) };
    assert!(
        matches!(tx.publish(&large), Err(PublishError::TooLarge { bytes, .. }) if bytes > messaging::MAX_PAYLOAD_BYTES)
    );
    assert!(matches!(tx.publish(&moved("", 1)), Err(PublishError::EmptyKey { .. })));
    let key = "p".repeat(messaging::MAX_KEY_BYTES + 1);
    assert!(matches!(tx.publish(&moved(&key, 1)), Err(PublishError::KeyTooLong { bytes, .. }) if bytes == key.len()));
    tx.commit().await.unwrap();
    assert_eq!(pending(&stage).await, 0);
}

/// The order of sequence numbers is the order of commits, also when an earlier position commits later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_commits_late_is_not_skipped() {
    let stage = stage().await;
    let mut slow = stage.outbox.begin().await.unwrap();
    sqlx::query(
        "insert into effect (parcel_id, step, attempt, late, message_id) values ('x', 0, 0, false, gen_random_uuid())",
    )
    .execute(&mut *slow)
    .await
    .unwrap();
    // Draws an earlier position than everything below, and commits after it.
    sqlx::query(
        "insert into messaging.outbox (lane, position, message_id, type, key, seq, payload, context, required, sensitive, deadline, occurred_at)
         values (0, nextval('messaging.outbox_position'), gen_random_uuid(), 'parcels.v1.ParcelMoved', 'slow', 1, '', '{}', true, false, false, now())",
    )
    .execute(&mut *slow)
    .await
    .unwrap();
    for n in 0..20 {
        publish(&stage.outbox, &format!("p-{n}"), 1).await;
    }
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    while relay.run_once().await.unwrap().published > 0 {}
    assert_eq!(stage.count("select count(*) from messaging.journal").await, 20);
    slow.commit().await.unwrap();
    relay.run_once().await.unwrap();
    assert_eq!(stage.count("select count(*) from messaging.journal where key = 'slow'").await, 1);
    assert_eq!(pending(&stage).await, 0);
}

/// A commit rings the relay of another process: nobody waits for a poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_the_relay_of_another_process() {
    let stage = stage().await;
    // A poll of an hour: only a ring can explain what follows.
    let options = messaging::RelayOptions { poll: std::time::Duration::from_secs(3600), ..relay_options() };
    let running = Running::relay(&Relay::with_options(&stage.outbox, &stage.broker, options));
    publish(&stage.outbox, "p-1", 1).await;
    eventually("the relay publishes", async || pending(&stage).await == 0).await;

    // Another process: an outbox whose relay holds no lanes, because the first one has them all.
    let elsewhere = messaging::Outbox::new(stage.database.pool.clone(), "parcels");
    let idle = Running::relay(&Relay::with_options(&elsewhere, &another_broker(&stage), options));
    for n in 2..40 {
        publish(&elsewhere, &format!("p-{n}"), 1).await;
    }
    eventually("whoever holds the lanes has heard of it", async || pending(&stage).await == 0).await;
    idle.stop().await;
    running.stop().await;
}

/// Housekeeping forgets the numbers of keys that have long been silent, and finds one that is just being advanced. Switch: `fresh-heads`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_speaks_again_keeps_its_number() {
    let mut stage = stage().await;
    publish(&stage.outbox, "p-1", 1).await;
    stage.execute("update messaging.stream_head set updated_at = now() - interval '1 year'").await;
    let mut advancing = stage.database.pool.acquire().await.unwrap();
    let advance = "begin; update messaging.stream_head set seq = seq + 1, updated_at = now()";
    sqlx::raw_sql(advance).execute(&mut *advancing).await.unwrap();
    let keep_house = async { stage.outbox.keep_house().await.unwrap() };
    let advance = async {
        eventually("housekeeping waits for the key", async || {
            let waiting =
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            stage.count(waiting).await > 0
        })
        .await;
        sqlx::raw_sql("commit").execute(&mut *advancing).await.unwrap();
    };
    tokio::join!(keep_house, advance);
    assert_eq!(stage.count("select seq from messaging.stream_head where key = 'p-1'").await, 2);
    stage.expect_leftovers();
}

/// Switch: `idle-relays`. The path from one process to the broker can be broken while the other's is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_broker_leaves_its_lanes_to_one_that_has_one() {
    let stage = stage().await;
    let nowhere = Broker::connect(BrokerOptions::new("amqp://parcels:parcels@127.0.0.1:1/%2f", "parcels").unwrap());
    let cut_off = Running::relay(&Relay::with_options(&stage.outbox, &nowhere, relay_options()));
    let held = "select count(*) from messaging.relay_lane where expires_at > now()";
    eventually("it holds every lane", async || stage.count(held).await == 16).await;
    let keys = 40;
    for n in 0..keys {
        publish(&stage.outbox, &format!("p-{n}"), 1).await;
    }
    let relay = Running::relay(&Relay::with_options(&stage.outbox, &stage.broker, relay_options()));
    eventually("everything is published", async || pending(&stage).await == 0).await;
    assert_eq!(stage.count("select count(*) from messaging.journal").await, keys);
    relay.stop().await;
    cut_off.stop().await;
    nowhere.close().await;
}

/// Alone, it has nobody to leave them to; it must not keep them from whoever comes. Switch: `idle-relays`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_broker_takes_no_lane_back() {
    let stage = stage().await;
    let nowhere = Broker::connect(BrokerOptions::new("amqp://parcels:parcels@127.0.0.1:1/%2f", "parcels").unwrap());
    let cut_off = Running::relay(&Relay::with_options(&stage.outbox, &nowhere, relay_options()));
    let held = "select count(*) from messaging.relay_lane where expires_at > now()";
    eventually("it holds every lane", async || stage.count(held).await == 16).await;
    eventually("it leaves them", async || stage.count(held).await == 0).await;

    let relay = Running::relay(&Relay::with_options(&stage.outbox, &stage.broker, relay_options()));
    // For longer than the lease of either.
    for step in 1..=4 {
        for n in 0..40 {
            publish(&stage.outbox, &format!("p-{n}"), step).await;
        }
        eventually("everything is published", async || pending(&stage).await == 0).await;
        tokio::time::sleep(relay_options().lease / 2).await;
    }
    relay.stop().await;
    cut_off.stop().await;
    nowhere.close().await;
}

/// Switch: `settled-ids`. After a failover that lost the latest commits, the place of an event that was sent can be that of another one, which was not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_took_the_place_of_a_sent_event_is_sent_too() {
    let stage = stage().await;
    publish(&stage.outbox, "p-1", 1).await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    let mut failover = stage.database.pool.acquire().await.unwrap();
    sqlx::raw_sql("begin; select from messaging.outbox for update").execute(&mut *failover).await.unwrap();
    let replace = async {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("it was sent, and is to be settled", async || stage.count(waiting).await > 0).await;
        let another = format!("update messaging.outbox set message_id = '{}'; commit", uuid::Uuid::now_v7());
        sqlx::raw_sql(sqlx::AssertSqlSafe(another)).execute(&mut *failover).await.unwrap();
    };
    let (sent, ()) = tokio::join!(relay.run_once(), replace);
    sent.unwrap();
    assert_eq!(pending(&stage).await, 1, "what is there now was not sent");
    let flow = Flow::start(&stage, Record::always());
    eventually("both have their effect", async || effects(&stage).await == 2).await;
    flow.settle(&stage).await;
    let moved = "select count(*) from messaging.journal where type = 'parcels.v1.ParcelMoved'";
    assert_eq!(stage.count(moved).await, 1);
}

/// A dead letter may wait for months, and is to know then that later ones were handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_a_key_is_kept_as_long_as_a_message_of_it_is_parked() {
    let mut stage = stage().await;
    for key in ["parked", "quiet"] {
        stage
            .execute(&format!(
                "insert into messaging.consumer_head (consumer, producer, key, seq, updated_at)
                 values ('parcels', 'parcels', '{key}', 6, now() - interval '1 year')"
            ))
            .await;
    }
    stage
        .execute(
            "insert into messaging.parked (consumer, message_id, producer, type, key, seq, payload, context, deadline, occurred_at, state)
             values ('parcels', gen_random_uuid(), 'parcels', 'parcels.v1.ParcelMoved', 'parked', 5, '', '{}', false, now(), 'dead')",
        )
        .await;
    stage.outbox.keep_house().await.unwrap();
    let kept = "select count(*) filter (where key = 'parked') * 10 + count(*) from messaging.consumer_head";
    assert_eq!(stage.count(kept).await, 11);
    stage.expect_leftovers();
}
