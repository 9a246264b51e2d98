//! Another service, played by the test: it announces and hears events as the real one does, with an outbox, a relay and a consumer of its own,
//! as the service's own broker user.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use messaging::{
    Broker, BrokerOptions, Consumer, ConsumerOptions, Event, Handler, HandlerError, Outbox, OutboxTransaction, Relay,
    RelayOptions,
    topology::{Feed, Service, Subscription},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Database, Vhost, eventually};

/// The part of a service, before the stage is set.
///
/// ```no_run
/// # async fn test<PaymentDue: messaging::Event + std::fmt::Debug, PaymentAuthorized: messaging::Event>(authorized: PaymentAuthorized) {
/// use testkit::{Actor, Vhost};
///
/// let payments = Actor::new("payments").hears::<PaymentDue>();
/// let vhost = Vhost::create(&[/* the topology of the service under test, */ payments.service()]).await;
/// let payments = payments.enter(&vhost).await;
/// // … the service under test runs in `vhost` and asks for a payment …
/// let due = payments.wait_for::<PaymentDue>(1).await;
/// payments.publish(&authorized).await;
/// payments.repeat::<PaymentAuthorized>().await;      // once more, with the same id
/// payments.close().await;
/// # }
/// ```
pub struct Actor {
    name: &'static str,
    types: BTreeSet<String>,
    ears: Vec<Listen>,
}

/// Adds the handler of one type.
type Listen = fn(Consumer, &Ear) -> Consumer;

impl Actor {
    /// The part of the service with this name, which is also its broker user and its queue. It may announce only what begins with the name.
    pub fn new(name: &'static str) -> Self {
        Self { name, types: BTreeSet::new(), ears: Vec::new() }
    }

    /// Hears these events, too.
    pub fn hears<E: Event + Debug>(mut self) -> Self {
        if self.types.insert(E::TYPE.to_owned()) {
            self.ears.push(|consumer, ear| consumer.on::<E>(ear.clone()));
        }
        self
    }

    /// Its part of the topology, for [`Vhost::create`] or [`Stage::new`](crate::Stage::new).
    pub fn service(&self) -> Service {
        let hears = Subscription {
            consumer: self.name.to_owned(),
            feed: Feed::Events,
            types: self.types.clone(),
            ordered: true,
            partitions: 1,
        };
        let subscriptions = if self.types.is_empty() { Vec::new() } else { vec![hears] };
        Service { name: self.name.to_owned(), subscriptions }
    }

    /// Begins to play, in a virtual host that was made with its [`service`](Self::service).
    pub async fn enter(self, vhost: &Vhost) -> Playing {
        let database = Database::create().await;
        let outbox = Outbox::new(database.pool.clone(), self.name);
        outbox.migrate().await.expect("the migrations apply to an empty database");
        let broker = Broker::connect(BrokerOptions::new(vhost.url_for(self.name), self.name).expect("an AMQP address"));
        let (ear, stop, mut tasks) = (Ear::default(), CancellationToken::new(), JoinSet::new());

        let options = RelayOptions { poll: Duration::from_millis(100), ..RelayOptions::default() };
        let relay = Relay::with_options(&outbox, &broker, options);
        let stop_relay = stop.clone();
        tasks.spawn(async move { relay.run(stop_relay).await.expect("the relay of an actor works") });
        if !self.ears.is_empty() {
            let options = ConsumerOptions { poll: Duration::from_millis(50), ..ConsumerOptions::default() };
            let consumer = Consumer::new(self.name, &broker, &outbox).options(options);
            let consumer = self.ears.iter().fold(consumer, |consumer, listen| listen(consumer, &ear));
            let stop_consumer = stop.clone();
            tasks.spawn(async move { consumer.run(stop_consumer).await.expect("the consumer of an actor works") });
        }
        Playing { name: self.name, database, outbox, broker, ear, stop, tasks }
    }
}

/// A service that plays. Ends when it is dropped; [`Playing::close`] also fails the test when something is left.
pub struct Playing {
    /// The service's name.
    pub name: &'static str,
    /// Its own database.
    pub database: Database,
    /// Its outbox, for what [`publish`](Self::publish) does not do: several events in one transaction, or later.
    pub outbox: Outbox,
    /// Connected as the service's own broker user.
    pub broker: Broker,
    ear: Ear,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Playing {
    /// Announces an event. Returns its message id; a relay brings it to the broker.
    pub async fn publish<E: Event>(&self, event: &E) -> Uuid {
        let mut tx = self.outbox.begin().await.expect("the actor's database");
        let message_id = tx.publish(event).expect("an event");
        tx.commit().await.expect("a commit");
        message_id
    }

    /// Waits until the broker has taken everything that was announced.
    pub async fn settled(&self) {
        let what = format!("everything that {} announced is with the broker", self.name);
        eventually(&what, async || self.count("select count(*) from messaging.outbox").await == 0).await;
    }

    /// Announces every event of this type once more, each with the id that it had: what a relay does that died before it settled.
    /// Returns how many there were, when the broker has them.
    pub async fn repeat<E: Event>(&self) -> u64 {
        self.settled().await;
        let copied = sqlx::query(
            "insert into messaging.outbox (lane, position, message_id, type, key, seq, payload, context, required, sensitive,
                                           deadline, occurred_at)
             select lane, nextval('messaging.outbox_position'), message_id, type, key, seq, payload, context, false, sensitive,
                    deadline, occurred_at
             from (select distinct on (message_id) * from messaging.journal
                   where type = $1 and payload is not null order by message_id, position) as first
             order by position",
        )
        .bind(E::TYPE)
        .execute(&self.database.pool)
        .await
        .expect("the journal can be copied");
        self.settled().await;
        copied.rows_affected()
    }

    /// The events of this type that were heard so far, in the order in which they came. A duplicate is not heard twice.
    #[track_caller]
    pub fn heard<E: Event>(&self) -> Vec<E> {
        let log = self.ear.log();
        log.iter().filter_map(|heard| heard.event.downcast_ref::<E>()).cloned().collect()
    }

    /// Waits until at least so many events of this type were heard. Returns all of them.
    pub async fn wait_for<E: Event>(&self, count: usize) -> Vec<E> {
        let what = format!("{} hears {count} × {}", self.name, E::TYPE);
        eventually(&what, async || self.heard::<E>().len() >= count).await;
        self.heard()
    }

    /// Everything that was heard so far, of every type, in the order in which it came.
    pub fn log(&self) -> Vec<Heard> {
        self.ear.log().clone()
    }

    /// Stops in order. Fails the test when something that it announced was not taken, or something that it heard was parked.
    pub async fn close(mut self) {
        self.settled().await;
        assert_eq!(self.count("select count(*) from messaging.parked").await, 0, "{} parked something", self.name);
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("an actor ends in order");
        }
        self.broker.close().await;
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.database.pool).await.expect("the query runs")
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // The tasks are aborted with their set.
        self.stop.cancel();
    }
}

/// An event that was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The full protobuf name.
    pub event_type: &'static str,
    /// The aggregate that it is about.
    pub key: String,
    /// The same however often it was delivered.
    pub message_id: Uuid,
    /// The trace that it belongs to, 32 hexadecimal digits.
    pub trace_id: Option<String>,
    event: Arc<dyn Any + Send + Sync>,
}

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Heard>>>);

impl Ear {
    fn log(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.0.lock().expect("nobody panics while writing it down")
    }
}

impl<E: Event> Handler<E> for Ear {
    async fn handle(&self, event: E, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let envelope = tx.envelope().expect("a handler has an envelope");
        let mut log = self.log();
        // A transaction that could not be committed is handled again.
        if log.iter().all(|heard| heard.message_id != envelope.message_id) {
            log.push(Heard {
                event_type: E::TYPE,
                key: event.key().to_owned(),
                message_id: envelope.message_id,
                trace_id: envelope.trace_id().map(str::to_owned),
                event: Arc::new(event),
            });
        }
        Ok(())
    }
}
