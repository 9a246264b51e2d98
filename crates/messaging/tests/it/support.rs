//! A small world for the tests: parcels that move, and a consumer that writes down what it saw.

use std::{sync::Arc, time::Duration};

use messaging::{
    Audience, Broker, BrokerOptions, Consumer, ConsumerOptions, Event, Handler, HandlerError, Outbox,
    OutboxTransaction, Relay, RelayOptions, RetryPolicy,
    topology::{Feed, Service, Subscription},
};
use sqlx::AssertSqlSafe;
use testkit::Stage;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Somebody must hear it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ParcelMoved {
    #[prost(string, tag = "1")]
    pub parcel_id: String,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub label: Vec<u8>,
}

impl Event for ParcelMoved {
    const TYPE: &'static str = "parcels.v1.ParcelMoved";
    const AUDIENCE: Audience = Audience::Required;
    const SENSITIVE: bool = false;
    fn key(&self) -> &str {
        &self.parcel_id
    }
}

/// Nobody has to hear it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ParcelSeen {
    #[prost(string, tag = "1")]
    pub parcel_id: String,
}

impl Event for ParcelSeen {
    const TYPE: &'static str = "parcels.v1.ParcelSeen";
    const AUDIENCE: Audience = Audience::Optional;
    const SENSITIVE: bool = true;
    fn key(&self) -> &str {
        &self.parcel_id
    }
}

/// The service `parcels` with one consumer of these types.
pub fn parcels(types: &[&str]) -> Service {
    Service {
        name: "parcels".into(),
        subscriptions: vec![Subscription {
            consumer: "parcels".into(),
            feed: Feed::Events,
            types: types.iter().map(|t| (*t).to_owned()).collect(),
            ordered: true,
            partitions: 1,
        }],
    }
}

/// A stage for the service, with a table for the effects.
pub async fn stage() -> Stage {
    stage_with(&[ParcelMoved::TYPE]).await
}

pub async fn stage_with(types: &[&str]) -> Stage {
    let stage = Stage::new("parcels", &[parcels(types)]).await;
    stage
        .execute(
            "create table effect (
                 n bigserial primary key, parcel_id text not null, step bigint not null, attempt bigint not null,
                 late boolean not null, message_id uuid not null)",
        )
        .await;
    stage
}

pub fn moved(parcel_id: &str, step: i64) -> ParcelMoved {
    ParcelMoved { parcel_id: parcel_id.into(), step, label: Vec::new() }
}

pub async fn publish(outbox: &Outbox, parcel_id: &str, step: i64) -> Uuid {
    let mut tx = outbox.begin().await.unwrap();
    let id = tx.publish(&moved(parcel_id, step)).unwrap();
    tx.commit().await.unwrap();
    id
}

/// What a handler does with an event, before the effect is written.
type Script = dyn Fn(&ParcelMoved, u32) -> Result<(), HandlerError> + Send + Sync;

/// Writes an effect for each event, when its script lets it.
#[derive(Clone)]
pub struct Record {
    script: Arc<Script>,
}

impl Record {
    pub fn always() -> Self {
        Self::when(|_, _| Ok(()))
    }

    /// The script gets the event and the number of the attempt.
    pub fn when(script: impl Fn(&ParcelMoved, u32) -> Result<(), HandlerError> + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script) }
    }
}

impl Handler<ParcelMoved> for Record {
    async fn handle(&self, event: ParcelMoved, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let envelope = tx.envelope().expect("a handler has an envelope").clone();
        // First the row, then the failure: what is rolled back must have been there.
        sqlx::query("insert into effect (parcel_id, step, attempt, late, message_id) values ($1, $2, $3, $4, $5)")
            .bind(&event.parcel_id)
            .bind(event.step)
            .bind(i64::from(envelope.attempt))
            .bind(envelope.late)
            .bind(envelope.message_id)
            .execute(&mut **tx)
            .await?;
        tx.publish(&ParcelSeen { parcel_id: event.parcel_id.clone() })?;
        (self.script)(&event, envelope.attempt)
    }
}

/// Short leases and polls, so that tests need not wait for those of production.
pub fn relay_options() -> RelayOptions {
    RelayOptions {
        lease: Duration::from_secs(2),
        poll: Duration::from_millis(100),
        confirm_deadline: Duration::from_secs(3),
        ..RelayOptions::default()
    }
}

pub fn consumer_options() -> ConsumerOptions {
    ConsumerOptions {
        handler_deadline: Duration::from_secs(2),
        poll: Duration::from_millis(50),
        ..ConsumerOptions::default()
    }
}

/// Retries at once, three times.
pub fn quick_retry() -> RetryPolicy {
    RetryPolicy::exponential(Duration::from_millis(20)).max_attempts(3)
}

pub fn consumer(broker: &Broker, outbox: &Outbox, record: Record) -> Consumer {
    Consumer::new("parcels", broker, outbox).options(consumer_options()).retry(quick_retry()).on(record)
}

/// A connection of its own, as another replica has.
pub fn another_broker(stage: &Stage) -> Broker {
    Broker::connect(BrokerOptions::new(stage.vhost.url_for("parcels"), "parcels").unwrap())
}

/// Something that runs until it is stopped, or dies.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), messaging::Error>>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "joined by stop(), aborted by kill()")]
    fn spawn(
        run: impl Future<Output = Result<(), messaging::Error>> + Send + 'static,
        stop: CancellationToken,
    ) -> Self {
        Self { stop, task: tokio::spawn(run) }
    }

    pub fn relay(relay: &Relay) -> Self {
        let (relay, stop) = (relay.clone(), CancellationToken::new());
        Self::spawn(
            {
                let stop = stop.clone();
                async move { relay.run(stop).await }
            },
            stop,
        )
    }

    pub fn consumer(consumer: &Consumer) -> Self {
        let (consumer, stop) = (consumer.clone(), CancellationToken::new());
        Self::spawn(
            {
                let stop = stop.clone();
                async move { consumer.run(stop).await }
            },
            stop,
        )
    }

    pub fn collector(collector: &messaging::Collector) -> Self {
        let (collector, stop) = (collector.clone(), CancellationToken::new());
        Self::spawn(
            {
                let stop = stop.clone();
                async move { collector.run(stop).await }
            },
            stop,
        )
    }

    pub fn worker<T: messaging::Task>(worker: &messaging::Worker<T>) -> Self {
        let (worker, stop) = (worker.clone(), CancellationToken::new());
        Self::spawn(
            {
                let stop = stop.clone();
                async move { worker.run(stop).await }
            },
            stop,
        )
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it does not panic").expect("it stops in order");
    }

    /// Dies where it is: nothing is finished, nothing released.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A relay and a consumer on a stage, running.
pub struct Flow {
    relay: Running,
    consumer: Running,
}

impl Flow {
    pub fn start(stage: &Stage, record: Record) -> Self {
        Self::start_with(stage, consumer(&stage.broker, &stage.outbox, record))
    }

    pub fn start_with(stage: &Stage, consumer: Consumer) -> Self {
        let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
        Self { relay: Running::relay(&relay), consumer: Running::consumer(&consumer) }
    }

    /// Waits until nothing is pending, then stops.
    pub async fn settle(self, stage: &Stage) {
        testkit::eventually("the outbox is empty", async || pending(stage).await == 0).await;
        self.stop().await;
    }

    pub async fn stop(self) {
        self.consumer.stop().await;
        self.relay.stop().await;
    }
}

pub async fn pending(stage: &Stage) -> i64 {
    stage.count("select count(*) from messaging.outbox").await
}

pub async fn effects(stage: &Stage) -> i64 {
    stage.count("select count(*) from effect").await
}

pub async fn parked(stage: &Stage, state: &str) -> i64 {
    stage.count(&format!("select count(*) from messaging.parked where state = '{state}'")).await
}

/// The steps of a parcel in the order of their effects.
pub async fn steps(stage: &Stage, parcel_id: &str) -> Vec<i64> {
    sqlx::query_scalar(AssertSqlSafe(format!("select step from effect where parcel_id = '{parcel_id}' order by n")))
        .fetch_all(&stage.database.pool)
        .await
        .unwrap()
}

/// Publishes a raw message to the exchange `events`, as an administrator.
pub async fn publish_raw(stage: &Stage, routing_key: &str, properties: lapin::BasicProperties, payload: &[u8]) {
    let connection =
        lapin::Connection::connect(&stage.vhost.amqp_url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
    channel
        .basic_publish(
            "events".into(),
            routing_key.into(),
            lapin::options::BasicPublishOptions::default(),
            payload,
            properties,
        )
        .await
        .unwrap()
        .await
        .unwrap();
    connection.close(200, "bye".into()).await.unwrap();
}

/// Copies of what is in the journal, put into the queue once more: what a relay does that died before it settled.
pub async fn send_everything_again(stage: &Stage) {
    stage
        .execute(
            "insert into messaging.outbox (lane, position, message_id, type, key, seq, payload, context, required, sensitive,
                                           deadline, occurred_at)
             select lane, position, message_id, type, key, seq, payload, context, false, sensitive, deadline, occurred_at
             from messaging.journal where type like '%Moved'",
        )
        .await;
}

/// A proxy before the database of the stage, and the URL that leads through it.
pub async fn behind_a_proxy(stage: &Stage) -> (wire::Proxy, String) {
    let (user, place) = stage.database.url.rsplit_once('@').unwrap();
    let (engine, name) = place.split_once('/').unwrap();
    let proxy = wire::Proxy::postgres(engine).await.unwrap();
    let url = format!("{user}@{}/{name}", proxy.address());
    (proxy, url)
}
