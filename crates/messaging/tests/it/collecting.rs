//! Lines of logs: published fire-and-forget, collected in bulk, bounded everywhere, and in nobody's way.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use messaging::{
    Broker, BrokerOptions, BulkHandler, Collector, CollectorOptions, HandlerError, Line, Logs, OutboxTransaction,
    topology::{LOGS_EXCHANGE, Service, Subscription},
};
use testkit::{Stage, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// Stores lines, and writes down how many came together.
#[derive(Clone, Default)]
struct Store {
    batches: Arc<Mutex<Vec<usize>>>,
    /// A line with this step is refused by the table.
    refuses: Option<i64>,
    /// Panics once.
    panics: Arc<AtomicBool>,
    /// Cuts the connections of this virtual host before the first batch can be acknowledged.
    cuts: Option<Arc<testkit::Vhost>>,
}

impl BulkHandler<ParcelMoved> for Store {
    async fn handle(&self, lines: &[Line<ParcelMoved>], tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        assert!(!self.panics.swap(false, SeqCst), "on purpose");
        for Line { service, event } in lines {
            sqlx::query("insert into line (id, service, step) values ($1, $2, $3) on conflict do nothing")
                .bind(&event.parcel_id)
                .bind(service)
                .bind(if Some(event.step) == self.refuses { None } else { Some(event.step) })
                .execute(&mut **tx)
                .await?;
        }
        let first = self.batches.lock().unwrap().is_empty();
        if let Some(vhost) = self.cuts.as_ref().filter(|_| first) {
            // The management API lists a connection a little after it was opened.
            while vhost.kill_connections().await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.batches.lock().unwrap().push(lines.len());
        Ok(())
    }
}

/// A stage with `parcels`, who writes lines, and `collector`, who collects them.
async fn logging_stage() -> Stage {
    let collector = Service { name: "collector".into(), subscriptions: vec![Subscription::logs("collector")] };
    let stage = Stage::new("collector", &[collector, parcels(&[])]).await;
    stage.execute("create table line (id text primary key, service text not null, step bigint not null)").await;
    stage
}

fn as_parcels(stage: &Stage) -> Broker {
    Broker::connect(BrokerOptions::new(stage.vhost.url_for("parcels"), "parcels").unwrap())
}

fn collector(stage: &Stage, store: &Store) -> Collector {
    let options = CollectorOptions { attempts: 2, ..CollectorOptions::default() };
    Collector::new("collector", &stage.broker, &stage.outbox, store.clone()).options(options)
}

/// Lines of `parcels` on their way out, until it is stopped.
struct Writing {
    logs: Logs,
    broker: Broker,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Writing {
    #[expect(clippy::disallowed_methods, reason = "joined by stop()")]
    fn start(stage: &Stage) -> Self {
        let (broker, stop) = (as_parcels(stage), CancellationToken::new());
        let logs = Logs::new(&broker, "parcels", 1_000);
        let task = tokio::spawn({
            let (logs, stop) = (logs.clone(), stop.clone());
            async move { logs.run(stop).await }
        });
        Self { logs, broker, stop, task }
    }

    fn lines(&self, steps: std::ops::RangeInclusive<i64>) {
        steps.for_each(|step| self.logs.publish(&moved(&format!("line-{step}"), step)));
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.broker.close().await;
    }
}

async fn stored(stage: &Stage) -> i64 {
    stage.count("select count(*) from line").await
}

async fn queue(stage: &Stage) -> lapin::Queue {
    let connection = lapin::Connection::connect(&stage.vhost.amqp_url, Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare("collector".into(), passive, Default::default()).await.unwrap();
    connection.close(200, "bye".into()).await.unwrap();
    queue
}

/// What waits in the queue and nobody has in hand.
async fn waiting(stage: &Stage) -> i64 {
    i64::from(queue(stage).await.message_count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_come_in_bulk_with_the_service_that_wrote_them() {
    let stage = logging_stage().await;
    let writing = Writing::start(&stage);
    writing.lines(1..=500);
    eventually("all of them are in the queue", async || waiting(&stage).await == 500).await;

    let store = Store::default();
    let collecting = Running::collector(&collector(&stage, &store));
    eventually("all of them are stored", async || stored(&stage).await == 500).await;
    assert_eq!(stage.count("select count(*) from line where service = 'parcels'").await, 500);
    let batches = store.batches.lock().unwrap().clone();
    assert!(batches.len() < 50, "in bulk: {batches:?}");
    collecting.stop().await;
    writing.stop().await;
    assert_eq!(waiting(&stage).await, 0, "everything was acknowledged");
}

/// Nothing is slowed: there is nothing in `publish` that could wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_the_buffer_is_dropped_and_counted() {
    let nowhere = Broker::connect(BrokerOptions::new("amqp://nobody:nothing@127.0.0.1:1/none", "parcels").unwrap());
    let logs = Logs::new(&nowhere, "parcels", 10);
    let stop = CancellationToken::new();
    let publish = async {
        for step in 1..=25 {
            logs.publish(&moved("line", step));
        }
        assert_eq!(logs.dropped(), 15);
        let mut huge = moved("line", 26);
        huge.label = vec![0; 9_000];
        logs.publish(&huge);
        assert_eq!(logs.dropped(), 16, "a line that is too long is none");
        stop.cancel();
    };
    tokio::join!(publish, logs.run(stop.clone()));
    assert_eq!(logs.dropped(), 26, "what never left is counted, too");
    nowhere.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_go_on_when_the_broker_is_back() {
    let stage = logging_stage().await;
    let store = Store::default();
    let collecting = Running::collector(&collector(&stage, &store));
    let writing = Writing::start(&stage);
    writing.lines(1..=10);
    eventually("the first ones are stored", async || stored(&stage).await == 10).await;

    eventually("the connections are killed", async || stage.vhost.kill_connections().await > 0).await;
    eventually("lines arrive again", async || {
        // One that goes into a connection that has just been lost is lost with it, and no harm.
        let step = 100 + stored(&stage).await;
        writing.lines(step..=step);
        stage.count("select count(*) from line where step >= 100").await > 0
    })
    .await;

    // The exchange is not there: the broker closes the channel, again and again.
    delete_exchange(&stage).await;
    writing.lines(1_001..=1_010);
    stage.vhost.import().await;
    eventually("lines arrive once more", async || {
        let step = 2_000 + stored(&stage).await;
        writing.lines(step..=step);
        stage.count("select count(*) from line where step >= 2000").await > 0
    })
    .await;
    writing.stop().await;
    collecting.stop().await;
}

async fn delete_exchange(stage: &Stage) {
    let connection = lapin::Connection::connect(&stage.vhost.amqp_url, Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.exchange_delete(LOGS_EXCHANGE.into(), Default::default()).await.unwrap();
    connection.close(200, "bye".into()).await.unwrap();
}

/// Switch: `collector-ack`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_acknowledged_only_when_it_is_committed() {
    let stage = logging_stage().await;
    stage.database.set_available(false).await;
    let first = Running::collector(&collector(&stage, &Store::default()));
    let writing = Writing::start(&stage);
    writing.lines(1..=20);
    eventually("it has them in hand and cannot store them", async || {
        stage.outbox.health().iter().any(|(part, state)| {
            part == "collector collector" && state.as_ref().is_err_and(|reason| reason.starts_with("paused"))
        })
    })
    .await;
    // It dies with them in hand.
    first.kill().await;
    stage.vhost.kill_connections().await;
    stage.database.set_available(true).await;
    let second = Running::collector(&collector(&stage, &Store::default()));
    eventually("all of them are stored", async || stored(&stage).await == 20).await;
    second.stop().await;
    writing.stop().await;
}

/// A line whose acknowledgement is lost comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_stored_and_not_acknowledged_comes_again_and_is_known() {
    let stage = logging_stage().await;
    let writing = Writing::start(&stage);
    writing.lines(1..=20);
    eventually("all of them are in the queue", async || waiting(&stage).await == 20).await;
    writing.stop().await;
    let store = Store { cuts: Some(Arc::new(stage.vhost.clone())), ..Store::default() };
    let collecting = Running::collector(&collector(&stage, &store));
    let handled = || store.batches.lock().unwrap().iter().sum::<usize>();
    eventually("all of them came again", async || handled() >= 40).await;
    collecting.stop().await;
    assert_eq!((stored(&stage).await, waiting(&stage).await), (20, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_or_stored_is_dropped_and_costs_no_other_its_place() {
    let stage = logging_stage().await;
    for (event_type, payload) in [("parcels.v1.ParcelMoved", b"garbage".as_slice()), ("parcels.v2.Unknown", b"")] {
        let properties = lapin::BasicProperties::default().with_type(event_type.into());
        publish_line(&stage, properties, payload).await;
    }
    let writing = Writing::start(&stage);
    writing.lines(1..=20);
    eventually("all of them are in the queue", async || waiting(&stage).await == 22).await;
    let store = Store { refuses: Some(7), panics: Arc::new(true.into()), ..Store::default() };
    let collecting = Running::collector(&collector(&stage, &store));
    eventually("the others are stored", async || stored(&stage).await == 19).await;
    assert_eq!(stage.count("select count(*) from line where step = 7").await, 0);
    collecting.stop().await;
    writing.stop().await;
    assert_eq!(waiting(&stage).await, 0, "nothing is left that could come again");
}

async fn publish_line(stage: &Stage, properties: lapin::BasicProperties, payload: &[u8]) {
    let connection = lapin::Connection::connect(&stage.vhost.url_for("parcels"), Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    let confirm =
        channel.basic_publish(LOGS_EXCHANGE.into(), "parcels".into(), Default::default(), payload, properties);
    confirm.await.unwrap().await.unwrap();
    connection.close(200, "bye".into()).await.unwrap();
}

/// The collector trusts the routing key, because the broker looks at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_writes_another_ones_lines() {
    let stage = logging_stage().await;
    let connection = lapin::Connection::connect(&stage.vhost.url_for("parcels"), Default::default()).await.unwrap();
    let write = async |service: &str| {
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(Default::default()).await.unwrap();
        let confirm =
            channel.basic_publish(LOGS_EXCHANGE.into(), service.into(), Default::default(), b"", Default::default());
        confirm.await.unwrap().await.map(drop)
    };
    for foreign in ["collector", "parcels.v1", "parcelsx", ""] {
        let refused = write(foreign).await.unwrap_err().to_string();
        assert!(refused.contains("ACCESS_REFUSED"), "{foreign}: {refused}");
    }
    write("parcels").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let foreign = channel.basic_consume("collector".into(), "".into(), Default::default(), Default::default()).await;
    assert!(foreign.unwrap_err().to_string().contains("ACCESS_REFUSED"), "nor reads them");
}

/// Of the definitions and of the broker: a collector that is away must never fill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_lines_that_nobody_takes_keeps_the_newest_ones() {
    let stage = logging_stage().await;
    let management = stage.vhost.management_for("collector");
    let service = Service { name: "collector".into(), subscriptions: vec![Subscription::logs("collector")] };
    stage.broker.verify(&service, Some(&management)).await.unwrap();
    let policies = stage.vhost.get(&format!("policies/{}/collector", stage.vhost.name)).await;
    assert!(policies["definition"]["max-length"].as_u64() > Some(1_000), "{policies}");
    assert!(policies["definition"]["max-length-bytes"].as_u64() > Some(1_000_000), "{policies}");
    assert_eq!(policies["definition"]["overflow"], "drop-head");

    // The same with a bound that a test can reach.
    let bound = serde_json::json!({ "max-length": 5, "overflow": "drop-head" });
    stage.vhost.set_policy("collector", bound).await;
    eventually("the bound is in force", async || {
        let queue = stage.vhost.get(&format!("queues/{}/collector", stage.vhost.name)).await;
        queue["effective_policy_definition"]["max-length"] == 5
    })
    .await;
    let writing = Writing::start(&stage);
    writing.lines(1..=1);
    eventually("lines get there", async || waiting(&stage).await == 1).await;
    writing.lines(2..=30);
    let dropped = writing.logs.clone();
    // Its end means that the broker has taken all of them.
    writing.stop().await;
    assert_eq!((dropped.dropped(), waiting(&stage).await), (0, 5));
    let collecting = Running::collector(&collector(&stage, &Store::default()));
    eventually("they are stored", async || stored(&stage).await == 5).await;
    assert_eq!(stage.count("select min(step) from line").await, 26, "the newest ones");
    collecting.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collectors_of_one_name_share_the_lines() {
    let stage = logging_stage().await;
    let (one, other) = (Store::default(), Store::default());
    let few = CollectorOptions { batch: 5, linger: Duration::ZERO, ..CollectorOptions::default() };
    let other_broker = Broker::connect(BrokerOptions::new(stage.vhost.url_for("collector"), "collector").unwrap());
    let first = Running::collector(&collector(&stage, &one).options(few));
    let second = Collector::new("collector", &other_broker, &stage.outbox, other.clone()).options(few);
    let second = Running::collector(&second);
    eventually("both have subscribed", async || queue(&stage).await.consumer_count() == 2).await;
    let writing = Writing::start(&stage);
    writing.lines(1..=500);
    eventually("every line is stored", async || stored(&stage).await == 500).await;
    first.stop().await;
    second.stop().await;
    other_broker.close().await;
    writing.stop().await;
    let share = |store: &Store| store.batches.lock().unwrap().iter().sum::<usize>();
    assert!(share(&one) > 0 && share(&other) > 0, "{} and {}", share(&one), share(&other));
    assert_eq!(share(&one) + share(&other), 500, "none was taken by both");
}
