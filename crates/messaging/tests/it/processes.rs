//! Processes that die, for real: the test starts itself again as a child and kills it.

use std::process::{Child, Command, Stdio};

use messaging::{Broker, BrokerOptions, HandlerError, Outbox, Relay};
use testkit::{Stage, eventually};

use crate::support::*;

const DATABASE: &str = "CHILD_DATABASE_URL";
const BROKER: &str = "CHILD_AMQP_URL";

#[expect(clippy::disallowed_methods, reason = "how the child hears of its stage")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Not a test: a replica of the service `parcels`, run as a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child process of the tests below"]
async fn replica() {
    let (Some(database), Some(broker)) = (env(DATABASE), env(BROKER)) else { return };
    let outbox = Outbox::new(messaging::pool::connect_lazy(&database, "replica", 10).unwrap(), "parcels");
    let broker = Broker::connect(BrokerOptions::new(broker, "replica").unwrap());
    let deadly = Record::when(|event, _| {
        if event.parcel_id == "deadly" {
            std::process::abort();
        }
        Ok::<(), HandlerError>(())
    });
    let options = messaging::ConsumerOptions { max_deaths: 2, ..consumer_options() };
    let consumer = consumer(&broker, &outbox, deadly).options(options);
    let relay = Relay::with_options(&outbox, &broker, relay_options());
    let (relay, consumer) = (Running::relay(&relay), Running::consumer(&consumer));
    // Until it is killed, or its parent is gone.
    std::future::pending::<()>().await;
    relay.stop().await;
    consumer.stop().await;
}

fn start_replica(stage: &Stage) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "processes::replica"])
        .env(DATABASE, &stage.database.url)
        .env(BROKER, stage.vhost.url_for("parcels"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Switch: `suspicion`. The innocents are in hand when the process dies, time and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_the_process_is_dead_after_n_tries_and_no_neighbour_is() {
    let mut stage = stage().await;
    for n in 0..40 {
        publish(&stage.outbox, &format!("p-{n}"), 1).await;
        if n == 20 {
            publish(&stage.outbox, "deadly", 1).await;
        }
    }
    let mut deaths = 0;
    let mut child = start_replica(&stage);
    eventually("the deadly one is dead and the others have their effect", async || {
        if child.try_wait().unwrap().is_some() {
            deaths += 1;
            assert!(deaths < 10, "the process dies over and over");
            child = start_replica(&stage);
        }
        parked(&stage, "dead").await == 1 && effects(&stage).await == 40
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(deaths >= 3, "it took {deaths} deaths");
    assert_eq!(stage.count("select count(*) from messaging.parked where key <> 'deadly'").await, 0);
    assert_eq!(stage.count("select count(*) from messaging.parked where reason like '%processes died%'").await, 1);
    stage.expect_leftovers();
}

/// Kill -9 in the middle, several times: everything has its effect, once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_when_replicas_are_killed() {
    let mut stage = stage().await;
    let mut children = [start_replica(&stage), start_replica(&stage)];
    const STEPS: i64 = 150;
    for step in 1..=STEPS {
        for key in 0..4 {
            publish(&stage.outbox, &format!("p-{key}"), step).await;
        }
        if step % 30 == 0 {
            let victim = &mut children[usize::try_from(step / 30 % 2).unwrap()];
            victim.kill().unwrap();
            victim.wait().unwrap();
            *victim = start_replica(&stage);
        }
    }
    eventually("every effect is there", async || effects(&stage).await >= 4 * STEPS).await;
    eventually("the outbox is empty", async || pending(&stage).await == 0).await;
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for key in 0..4 {
        assert_eq!(steps(&stage, &format!("p-{key}")).await, (1..=STEPS).collect::<Vec<_>>());
    }
    stage.expect_leftovers();
}

/// A claim counts as an attempt, so only the message in hand is claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_message_that_kills_the_process_costs_its_neighbours_no_attempt() {
    use prost::Message as _;
    let mut stage = stage().await;
    // The deadly one has been due for longest, so it is tried first.
    for (n, key) in ["deadly", "p-1", "p-2", "p-3", "p-4"].into_iter().enumerate() {
        sqlx::query(
            "insert into messaging.parked (consumer, message_id, producer, type, key, seq, payload, context, deadline,
                                           occurred_at, state, attempts, next_attempt_at)
             values ('parcels', $1, 'parcels', 'parcels.v1.ParcelMoved', $2, 1, $3, '{}', false, now(), 'waiting', 1,
                     now() - interval '1 hour' + make_interval(secs => $4))",
        )
        .bind(uuid::Uuid::now_v7())
        .bind(key)
        .bind(moved(key, 1).encode_to_vec())
        .bind(n as f64)
        .execute(&stage.database.pool)
        .await
        .unwrap();
    }
    let mut child = start_replica(&stage);
    let mut deaths = 0;
    eventually("the others have their effect", async || {
        if child.try_wait().unwrap().is_some() {
            deaths += 1;
            child = start_replica(&stage);
        }
        effects(&stage).await == 4
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(deaths, 1, "the deadly one was tried");
    assert_eq!(stage.count("select max(attempt) from effect").await, 2);
    stage.expect_leftovers();
}
