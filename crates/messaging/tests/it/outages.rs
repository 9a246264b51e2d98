//! The broker and the database go away and come back.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use messaging::{Broker, BrokerOptions, Consumer, HandlerError, Outbox, Relay, RetryPolicy};
use testkit::{eventually, patience};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet, time::Instant};

use crate::support::*;

async fn arrives(stage: &testkit::Stage, step: i64) {
    publish(&stage.outbox, "p-1", step).await;
    eventually("the effect is there", async || steps(stage, "p-1").await.last() == Some(&step)).await;
}

fn consumer_health(stage: &testkit::Stage) -> Result<String, String> {
    let health = stage.outbox.health();
    health.into_iter().find(|(part, _)| part == "consumer parcels").unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_announced_is_not_well_before_it_has_subscribed() {
    let stage = stage().await;
    let announced = consumer(&stage.broker, &stage.outbox, Record::always());
    announced.announce();
    assert_eq!(consumer_health(&stage), Err("not started yet".into()));
    let running = Running::consumer(&announced);
    eventually("it is content", async || consumer_health(&stage).is_ok()).await;
    running.stop().await;
}

/// Headers have to be in one frame: where that is not sure, nothing is sent at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_frames_are_too_small_is_not_used_and_says_why() {
    let stage = stage().await;
    let url = format!("{}?frame_max=8192", stage.vhost.url_for("parcels"));
    let broker = Broker::connect(BrokerOptions::new(url, "parcels").unwrap());
    eventually("the check names the setting", async || {
        let named = |(_, state): &messaging::Check| state.as_ref().is_err_and(|why| why.contains("raise `frame_max`"));
        // Publishing and consuming.
        broker.health().iter().filter(|check| named(check)).count() == 2
    })
    .await;
    broker.close().await;
}

/// Switch: `handshake-deadline`. A broker that is stopped, or a balancer with none behind it, accepts and says nothing, all night.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_with_a_silent_peer_leaves_neither_its_socket_nor_its_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://somebody:secret@{}/shop", listener.local_addr().unwrap());
    let broker = Broker::connect(BrokerOptions::new(url, "parcels").unwrap());
    for end in ["the deadline is over", "nobody wants it any more"] {
        // Publishing and consuming.
        let mut tries = [listener.accept().await.unwrap().0, listener.accept().await.unwrap().0];
        for socket in &mut tries {
            let mut header = [0; 8];
            socket.read_exact(&mut header).await.unwrap();
            assert_eq!(&header, b"AMQP\0\0\x09\x01");
        }
        if end == "nobody wants it any more" {
            broker.close().await;
        }
        for socket in &mut tries {
            let ended = tokio::time::timeout(patience(), socket.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "{end}, and the socket is still open");
        }
    }
    if testkit::alone() {
        eventually("lapin's threads have ended", async || threads_named("lapin-io-loop") == 0).await;
    }
}

/// 0 where the system does not say.
fn threads_named(name: &str) -> usize {
    let comm = |thread: &std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    threads.filter(|thread| thread.as_ref().is_ok_and(|thread| comm(thread).trim() == name)).count()
}

/// Switch: `supervisor`. lapin ends the stream of a cancelled consumer without an error, and its channel looks alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_consumer_is_rebuilt_and_the_check_says_so_meanwhile() {
    let stage = stage().await;
    let flow = Flow::start(&stage, Record::always());
    arrives(&stage, 1).await;

    stage.vhost.delete_queue("parcels").await;
    eventually("the check says so", async || consumer_health(&stage).is_err()).await;
    stage.vhost.import().await;
    eventually("the check is content again", async || consumer_health(&stage).is_ok()).await;
    arrives(&stage, 2).await;
    flow.settle(&stage).await;
}

/// Switch: `supervisor`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_is_rebuilt_and_every_effect_is_there_once() {
    let stage = stage().await;
    // Every message is in hand for long enough to be caught there.
    let record = Record::when(|_, _| {
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    });
    let flow = Flow::start(&stage, record);
    arrives(&stage, 1).await;
    for step in 2..=400 {
        publish(&stage.outbox, &format!("q-{}", step % 7), step).await;
        if step % 100 == 0 {
            eventually("its connections are killed", async || stage.vhost.kill_connections().await > 0).await;
        }
    }
    eventually("every effect is there", async || effects(&stage).await >= 400).await;
    arrives(&stage, 1000).await;
    flow.settle(&stage).await;
    assert_eq!(effects(&stage).await, 401);
    assert_eq!(stage.count("select count(distinct message_id) from effect").await, 401);
}

/// Switch: `ack-life`. Delivery tags start again with every channel: an acknowledgement that is late by one life would take messages away
/// that nobody has handled, and they would be lost with the next crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_ack_crosses_a_channels_life() {
    let stage = stage().await;
    let [entered, free, up] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let tries = Arc::new(AtomicUsize::new(0));
    let record = Record::when({
        let (entered, free, up, tries) = (entered.clone(), free.clone(), up.clone(), tries.clone());
        move |event, _| match event.parcel_id.as_str() {
            "slow" => {
                entered.store(true, SeqCst);
                let since = Instant::now();
                tokio::task::block_in_place(|| {
                    while !free.load(SeqCst) && since.elapsed() < Duration::from_secs(60) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                });
                Ok(())
            }
            "first" => Ok(()),
            _ if up.load(SeqCst) => Ok(()),
            _ => {
                tries.fetch_add(1, SeqCst);
                Err(HandlerError::unavailable("not now"))
            }
        }
    });
    let relay = Running::relay(&Relay::with_options(&stage.outbox, &stage.broker, relay_options()));
    let broker = another_broker(&stage);
    let doomed = Running::consumer(&consumer(&broker, &stage.outbox, record.clone()));
    for step in 1..=4 {
        publish(&stage.outbox, "first", step).await;
    }
    eventually("tags 1 to 4 are done", async || effects(&stage).await == 4).await;
    publish(&stage.outbox, "slow", 1).await;
    eventually("tag 5 is in hand", async || entered.load(SeqCst)).await;
    for n in 0..8 {
        publish(&stage.outbox, &format!("waiting-{n}"), 1).await;
    }
    eventually("others are in hand", async || pending(&stage).await == 0 && tries.load(SeqCst) > 0).await;

    eventually("the connections are killed", async || stage.vhost.kill_connections().await > 0).await;
    // A life that does not wait for what is in hand ends and is followed by another, which holds another message under tag 5. A right one
    // stays as it is, which is why this gives up.
    let watched = Instant::now();
    for content in [false, true] {
        while consumer_health(&stage).is_ok() != content && watched.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let tries_before = tries.load(SeqCst);
    free.store(true, SeqCst);
    eventually("the effect of tag 5 is there", async || steps(&stage, "slow").await == [1]).await;
    eventually("a new life has begun", async || tries.load(SeqCst) > tries_before).await;
    doomed.kill().await;
    broker.close().await;

    // Nothing of it is left in the process: only the broker still has those that nobody handled.
    up.store(true, SeqCst);
    let heir = Running::consumer(&consumer(&another_broker(&stage), &stage.outbox, record));
    eventually("every other effect is there, too", async || effects(&stage).await == 13).await;
    heir.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_loses_nothing_and_spends_no_attempts() {
    let stage = stage().await;
    let flow = Flow::start(&stage, Record::always());
    arrives(&stage, 1).await;
    for n in 0..50 {
        publish(&stage.outbox, &format!("q-{n}"), 1).await;
    }
    stage.database.set_available(false).await;
    eventually("the consumer or the relay says so", async || {
        stage.outbox.health().iter().any(|(_, state)| state.is_err())
    })
    .await;
    stage.database.set_available(true).await;
    eventually("every effect is there", async || effects(&stage).await == 51).await;
    arrives(&stage, 2).await;
    flow.settle(&stage).await;
    assert_eq!(stage.count("select max(attempt) from effect").await, 1);
    assert_eq!(stage.count("select count(*) from messaging.parked").await, 0);
}

/// Switch: `answer-deadline`. A machine vanishes, and its address is another one's: nobody is told, and what was asked is never answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_vanishes_without_a_word_is_connected_to_anew() {
    let stage = stage().await;
    let (proxy, url) = behind_a_proxy(&stage).await;
    let pool = messaging::pool::connect_lazy(&url, "parcels", 10).unwrap();
    let outbox = Outbox::new(pool, "parcels").answer_deadline(Duration::from_secs(1));
    let relay = Running::relay(&Relay::with_options(&outbox, &stage.broker, relay_options()));
    let consumer = Running::consumer(&consumer(&stage.broker, &outbox, Record::always()));
    arrives(&stage, 0).await;
    for round in 1..=3 {
        for n in 0..50 {
            publish(&stage.outbox, &format!("q-{n}"), round).await;
        }
        eventually("both are at work", async || effects(&stage).await > 50 * (round - 1) + 1).await;
        assert!(proxy.strand(&wire::Aim::everybody()) > 0, "somebody was connected");
        eventually("every effect is there", async || effects(&stage).await == 50 * round + 1).await;
    }
    eventually("everything is settled", async || pending(&stage).await == 0).await;
    consumer.stop().await;
    relay.stop().await;
    assert_eq!(stage.count("select count(distinct message_id) from effect").await, 151);
    assert_eq!(steps(&stage, "q-7").await, [1, 2, 3]);
}

/// Switch: `answer-deadline`. Who gives a connection back does not know that it leads nowhere, and nobody waits for its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_leads_nowhere_does_not_keep_its_place_in_the_pool() {
    let stage = stage().await;
    let (proxy, url) = behind_a_proxy(&stage).await;
    let pool = messaging::pool::connect_lazy(&url, "parcels", 2).unwrap();
    let (one, other) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    assert_eq!(proxy.strand(&wire::Aim::everybody()), 2);
    drop((one, other));
    let ask = async || sqlx::query("select 1").execute(&pool).await.is_ok();
    eventually("there is a connection that leads somewhere", ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_waits_for_a_database_that_is_away() {
    let stage = stage().await;
    let (proxy, url) = behind_a_proxy(&stage).await;
    let pool = messaging::pool::connect_lazy(&url, "parcels", 2).unwrap();
    let away = proxy.inject(&wire::Aim::everybody(), wire::Fault::Refuse);
    let mut schema = JoinSet::new();
    schema.spawn(async move { messaging::pool::migrate(&pool, &sqlx::migrate!()).await });
    eventually("it was tried more than once", async || away.count() > 1).await;
    assert!(schema.try_join_next().is_none());
    drop(away);
    schema.join_next().await.unwrap().unwrap().unwrap();
}

fn health_of(outbox: &Outbox, name: &str) -> Result<String, String> {
    let health = outbox.health().into_iter().find(|(part, _)| part == name);
    health.map_or(Err("it has not begun".into()), |(_, state)| state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_cannot_publish_says_so_for_as_long_as_that_lasts() {
    let stage = stage().await;
    let (database, url) = behind_a_proxy(&stage).await;
    let outbox = Outbox::new(messaging::pool::connect_lazy(&url, "parcels", 4).unwrap(), "parcels");
    let outbox = outbox.answer_deadline(Duration::from_secs(1));
    let amqp = testkit::AmqpProxy::start(&stage.vhost.url_for("parcels")).await;
    let broker = Broker::connect(BrokerOptions::new(amqp.url(), "parcels").unwrap());
    let running = Running::relay(&Relay::with_options(&outbox, &broker, relay_options()));
    let holds = Ok("holds 16 of 16 lanes".to_owned());
    eventually("it holds all lanes", async || health_of(&outbox, "relay") == holds).await;

    let away = database.inject(&wire::Aim::everybody(), wire::Fault::Refuse);
    database.strand(&wire::Aim::everybody());
    // There is nothing to publish, so that only its leases tell.
    let ran_out = |state: Result<String, String>| state.is_err_and(|why| why.contains("could not be renewed"));
    eventually("its leases have run out", async || ran_out(health_of(&outbox, "relay"))).await;
    drop(away);
    eventually("it holds all lanes again", async || health_of(&outbox, "relay") == holds).await;
    running.stop().await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_well_again_when_its_database_is_though_there_is_nothing_to_do() {
    let stage = stage().await;
    let (proxy, url) = behind_a_proxy(&stage).await;
    let outbox = Outbox::new(messaging::pool::connect_lazy(&url, "parcels", 4).unwrap(), "parcels");
    let worker = messaging::Worker::new(&outbox, Nothing).poll(Duration::from_millis(50));
    let running = Running::worker(&worker);
    let health = async || health_of(&outbox, "worker nothing");
    eventually("it works", async || health().await.is_ok()).await;
    let away = proxy.inject(&wire::Aim::everybody(), wire::Fault::Refuse);
    proxy.strand(&wire::Aim::everybody());
    eventually("it says that it cannot", async || health().await.is_err()).await;
    drop(away);
    eventually("it works again", async || health().await.is_ok()).await;
    running.stop().await;
}

/// Work of which there is none.
struct Nothing;

impl messaging::Task for Nothing {
    const NAME: &'static str = "nothing";
    type Done = ();

    async fn perform(&self, _: &messaging::Job) -> Result<(), messaging::TaskError> {
        Ok(())
    }

    async fn record(
        &self,
        _: &messaging::Job,
        _: messaging::Outcome<()>,
        _: &mut messaging::OutboxTransaction,
    ) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// It would be the last one, and make a dead letter of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_costs_a_parked_message_no_attempt() {
    let stage = stage().await;
    let (proxy, url) = behind_a_proxy(&stage).await;
    let outbox = Outbox::new(messaging::pool::connect_lazy(&url, "parcels", 6).unwrap(), "parcels");
    let outbox = outbox.answer_deadline(Duration::from_secs(1));
    let proxy = Arc::new(proxy);
    let away = Arc::new(Mutex::new(None));
    let record = Record::when({
        let (proxy, away, cut) = (proxy.clone(), away.clone(), AtomicBool::new(false));
        move |_, attempt| match attempt {
            1 => Err(HandlerError::retry("busy")),
            _ => {
                if !cut.swap(true, SeqCst) {
                    *away.lock().unwrap() = Some(proxy.inject(&wire::Aim::everybody(), wire::Fault::Refuse));
                    proxy.strand(&wire::Aim::everybody());
                }
                Ok(())
            }
        }
    });
    let twice = RetryPolicy::exponential(Duration::from_millis(10)).max_attempts(2);
    let consumer = Consumer::new("parcels", &stage.broker, &outbox).options(consumer_options()).retry(twice).on(record);
    let consumer = Running::consumer(&consumer);
    let relay = Running::relay(&Relay::with_options(&stage.outbox, &stage.broker, relay_options()));
    publish(&stage.outbox, "p-1", 1).await;
    eventually("the outage is felt", async || {
        away.lock().unwrap().as_ref().is_some_and(|away: &wire::Injection| away.count() > 0)
    })
    .await;
    *away.lock().unwrap() = None;
    eventually("it has its effect after all", async || steps(&stage, "p-1").await == [1]).await;
    assert_eq!(stage.count("select max(attempt) from effect").await, 2);
    eventually("everything is settled", async || pending(&stage).await == 0).await;
    consumer.stop().await;
    relay.stop().await;
}

/// A dump reads all tables for hours. A migration waits for it, and everybody else, as the processes of the release before, would wait behind that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_has_to_wait_lets_everybody_else_pass() {
    let stage = stage().await;
    let folder = std::env::temp_dir().join(format!("migrations-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("9001_wide.sql"), "alter table effect add column wide text").unwrap();
    let mut migrations = sqlx::migrate::Migrator::new(folder.as_path()).await.unwrap();
    migrations.set_ignore_missing(true);

    let mut dump = stage.outbox.begin().await.unwrap();
    sqlx::query("lock table effect in access share mode").execute(&mut *dump).await.unwrap();
    let mut migrating = JoinSet::new();
    let pool = stage.outbox.pool().clone();
    migrating.spawn(async move { messaging::pool::migrate(&pool, &migrations).await });
    let waits = "select count(*) from pg_locks where not granted and relation = 'effect'::regclass";
    eventually("the migration waits", async || stage.count(waits).await == 1).await;
    let write = stage.execute("update effect set step = step");
    assert!(tokio::time::timeout(patience(), write).await.is_ok(), "somebody waits behind the migration");
    assert!(migrating.try_join_next().is_none());

    drop(dump);
    migrating.join_next().await.unwrap().unwrap().unwrap();
    let made = "select count(*) from information_schema.columns where table_name = 'effect' and column_name = 'wide'";
    assert_eq!(stage.count(made).await, 1);
    std::fs::remove_dir_all(folder).unwrap();
}

/// During a deployment, and after one that was taken back, a process starts that knows less than its database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_starts_on_the_schema_of_a_newer_one() {
    let stage = stage().await;
    let newer = "insert into messaging._migrations (version, description, success, checksum, execution_time)
                 values (9999, 'of a newer version', true, '\\x00', 0)";
    stage.execute(newer).await;
    stage.outbox.migrate().await.unwrap();
    let flow = Flow::start(&stage, Record::always());
    arrives(&stage, 1).await;
    flow.settle(&stage).await;
}

/// The ear of a relay takes no place in its pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_needs_a_single_connection_of_its_pool() {
    let stage = stage().await;
    let pool = messaging::pool::connect_lazy(&stage.database.url, "parcels", 1).unwrap();
    let relay = Running::relay(&Relay::with_options(&Outbox::new(pool, "parcels"), &stage.broker, relay_options()));
    let ears = "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'";
    eventually("it listens", async || stage.count(ears).await == 1).await;
    publish(&stage.outbox, "p-1", 1).await;
    eventually("the event is published", async || pending(&stage).await == 0).await;
    relay.stop().await;
}

/// An address, with another node's place before its own.
fn before(place: &str, url: &str) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    format!("{user}@{place},{rest}")
}

/// Switch: `next-node`. Where each connection begins is left to chance: of these eight, hardly all begin with the node that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_the_one_that_is_there_is_found() {
    let stage = stage().await;
    let url = before("127.0.0.1:1", &stage.vhost.url_for("parcels"));
    let replicas: Vec<_> = (0..4).map(|_| Broker::connect(BrokerOptions::new(&url, "parcels").unwrap())).collect();
    for replica in &replicas {
        eventually("both connections are up", async || {
            replica.health().iter().filter(|(_, state)| state.is_ok()).count() == 2
        })
        .await;
    }
    let relay = Running::relay(&Relay::with_options(&stage.outbox, &replicas[0], relay_options()));
    let consumer = Running::consumer(&consumer(&replicas[1], &stage.outbox, Record::always()));
    arrives(&stage, 1).await;
    consumer.stop().await;
    relay.stop().await;
}

/// A connection that is lost goes on to the next node, and from there to the first one again, whichever of them is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_goes_the_connections_move_to_another_and_nothing_is_lost() {
    let stage = stage().await;
    let url = stage.vhost.url_for("parcels");
    let (going, staying) = (testkit::AmqpProxy::start(&url).await, testkit::AmqpProxy::start(&url).await);
    let place = going.url().split(['@', '/']).nth(3).unwrap().to_owned();
    let broker = Broker::connect(BrokerOptions::new(before(&place, staying.url()), "parcels").unwrap());
    let relay = Running::relay(&Relay::with_options(&stage.outbox, &broker, relay_options()));
    let consumer = Running::consumer(&consumer(&broker, &stage.outbox, Record::always()));
    arrives(&stage, 1).await;
    drop(going);
    for step in 2..=50 {
        publish(&stage.outbox, "p-1", step).await;
        if step == 25 {
            eventually("its connections are killed", async || stage.vhost.kill_connections().await > 0).await;
        }
    }
    eventually("every effect is there", async || effects(&stage).await == 50).await;
    arrives(&stage, 51).await;
    consumer.stop().await;
    relay.stop().await;
    assert_eq!(steps(&stage, "p-1").await, (1..=51).collect::<Vec<_>>());
}

/// A node that is cut off from the others keeps its connections and confirms nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_confirms_nothing_is_left_for_another() {
    let stage = stage().await;
    let url = stage.vhost.url_for("parcels");
    let nodes = [testkit::AmqpProxy::start(&url).await, testkit::AmqpProxy::start(&url).await];
    nodes.iter().for_each(testkit::AmqpProxy::swallow_confirms);
    let place = nodes[0].url().split(['@', '/']).nth(3).unwrap().to_owned();
    let broker = Broker::connect(BrokerOptions::new(before(&place, nodes[1].url()), "parcels").unwrap());
    let relay = Running::relay(&Relay::with_options(&stage.outbox, &broker, relay_options()));
    publish(&stage.outbox, "p-1", 1).await;
    eventually("a confirm is lost", async || nodes.iter().any(|node| node.swallowed() > 0)).await;
    // The node that it was lost at stays as it is.
    for node in nodes.iter().filter(|node| node.swallowed() == 0) {
        node.heal();
    }
    eventually("the event is published", async || pending(&stage).await == 0).await;
    let consumer = Running::consumer(&consumer(&broker, &stage.outbox, Record::always()));
    eventually("its effect is there", async || steps(&stage, "p-1").await == [1]).await;
    consumer.stop().await;
    relay.stop().await;
}
