//! Takes events off a queue and lets each have its effect once, in order per key.
//!
//! The supervisor keeps a subscription alive for ever: lapin reports a consumer that the broker cancelled as the plain end of its stream,
//! and does not recover channels. Each life of a channel has its own acknowledgements, because delivery tags start again with it.

mod acks;
mod channel;
mod lane;
mod net;
pub(crate) mod parking;
mod retries;
pub(crate) mod transaction;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use failpoints::without;
use tokio::sync::{Notify, RwLock};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    Broker, Envelope, Error, Event, Handler, Outbox, RetryPolicy,
    handler::{ErasedHandler, erase},
    health::Health,
    meters::{self, Meters},
    retry::RECONNECT,
    topology::{self, Feed, Service, Subscription},
};

/// Failures to subscribe in a row after which it is an alert, not a hiccup.
const ALERT_AFTER: u32 = 10;

/// How a consumer works. The defaults suit production.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions {
    /// How many deliveries may be in hand: twice what all lanes take at once, so that the next batch is there when one is committed.
    pub prefetch: u16,
    /// How many messages one transaction takes at most; 1 for handlers that lock contended rows.
    pub batch: usize,
    /// How many transactions run at once. Messages of one key are always in the same lane.
    pub lanes: usize,
    /// How long one call of a handler may take.
    pub handler_deadline: Duration,
    /// How many processes may die over one message before it is dead.
    pub max_deaths: i32,
    /// How often parked messages are looked at when nothing rings.
    pub poll: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            prefetch: 512,
            batch: 64,
            lanes: 4,
            handler_deadline: Duration::from_secs(30),
            max_deaths: 5,
            poll: Duration::from_millis(500),
        }
    }
}

/// How the handling of a message hangs together with its creation in traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceMode {
    /// The handling is a part of the trace that the message was created in: one request and all that came of it is one trace.
    #[default]
    Parent,
    /// The handling starts a trace of its own that links to the creation: for consumers of so much, or so long after, that the trace
    /// of the creation would have no end. Whether it is recorded was decided at the creation all the same.
    Link,
}

/// A named consumer: its handlers, and one queue in the broker. Every replica of a service runs the same.
#[derive(Clone)]
pub struct Consumer {
    name: &'static str,
    broker: Broker,
    outbox: Outbox,
    handlers: HashMap<&'static str, Arc<dyn ErasedHandler>>,
    retry: RetryPolicy,
    options: ConsumerOptions,
    trace_mode: TraceMode,
    ordered: bool,
    partitions: u8,
    state: Arc<State>,
}

/// What the parts of a consumer share while it runs.
struct State {
    /// Of this process; a mark of another one on a redelivered message means that it died.
    process: Uuid,
    /// A redelivered message is handled alone: should it kill the process, nobody else is under suspicion.
    suspects: RwLock<()>,
    pause: lane::Pause,
    /// Rung when something was parked or became due.
    parked: Notify,
    /// Made when they are first used: whoever records metrics is installed by then.
    meters: OnceLock<Meters>,
}

impl Consumer {
    /// A consumer without handlers. The name is the queue's, and part of what the inbox remembers: do not change it.
    pub fn new(name: &'static str, broker: &Broker, outbox: &Outbox) -> Self {
        Self {
            name,
            broker: broker.clone(),
            outbox: outbox.clone(),
            handlers: HashMap::new(),
            retry: RetryPolicy::default(),
            options: ConsumerOptions::default(),
            trace_mode: TraceMode::default(),
            ordered: true,
            partitions: 1,
            state: Arc::new(State {
                process: Uuid::now_v7(),
                suspects: RwLock::default(),
                pause: lane::Pause::default(),
                parked: Notify::new(),
                meters: OnceLock::new(),
            }),
        }
    }

    /// Adds the handler of an event. One handler for each type.
    pub fn on<E: Event + std::fmt::Debug>(mut self, handler: impl Handler<E>) -> Self {
        self.handlers.insert(E::TYPE, erase(handler));
        self
    }

    /// When failed messages are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Other options.
    pub fn options(mut self, options: ConsumerOptions) -> Self {
        self.options = options;
        self
    }

    /// How its work hangs together with the creation of its messages in traces.
    pub fn trace_mode(mut self, mode: TraceMode) -> Self {
        self.trace_mode = mode;
        self
    }

    /// Gives up order per key: all replicas share one queue. For handlers that do not care.
    pub fn competing(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// Spreads the lanes over this many queues, 1 to 16, so that replicas can share ordered work. Changed only when the queues are empty.
    pub fn partitions(mut self, partitions: u8) -> Self {
        self.partitions = partitions.clamp(1, 16);
        self
    }

    /// What the topology must hold for this consumer.
    pub fn subscription(&self) -> Subscription {
        Subscription {
            consumer: self.name.to_owned(),
            feed: Feed::Events,
            types: self.handlers.keys().map(|event_type| (*event_type).to_owned()).collect(),
            ordered: self.ordered,
            partitions: self.partitions,
        }
    }

    /// The part of the topology of a service that has only this consumer.
    pub fn service(&self) -> Service {
        Service { name: self.outbox.shared.producer.to_owned(), subscriptions: vec![self.subscription()] }
    }

    /// The dead letters of this consumer.
    pub fn dead_letters(&self) -> crate::DeadLetters {
        crate::DeadLetters::new(self.name, self.outbox.clone(), self.handlers.clone(), Arc::clone(&self.state_notify()))
    }

    fn state_notify(&self) -> Arc<dyn Fn() + Send + Sync> {
        let state = Arc::clone(&self.state);
        Arc::new(move || state.parked.notify_one())
    }

    pub(crate) fn meters(&self) -> &Meters {
        self.state.meters.get_or_init(|| Meters::new(self.name, self.handlers.keys().copied()))
    }

    /// Has [`Outbox::health`](crate::Outbox::health) say that it does not run yet, for whoever looks before it does.
    pub fn announce(&self) {
        self.outbox.shared.health.set(&self.part(), Err("not started yet".into()));
    }

    /// Consumes until `stop`, then finishes what is in hand and acknowledges it. Outages of the broker and the database are waited out.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        meters::describe_consumer();
        self.meters();
        meters::consumer_paused(self.name, false);
        let queues = self.subscription().queue_names();
        let subscriptions = async {
            futures_util::future::try_join_all(queues.iter().map(|queue| supervise(self, queue, &stop))).await?;
            Ok(())
        };
        tokio::try_join!(subscriptions, self.supervise_net(&stop), self.run_retries(&stop))?;
        self.outbox.shared.health.set(&self.part(), Err("stopped".into()));
        Ok(())
    }

    /// The queue that a message came by.
    fn queue_of(&self, envelope: &Envelope) -> Cow<'static, str> {
        match self.partitions {
            0 | 1 => self.name.into(),
            partitions => topology::partition(self.name, envelope.lane() % i16::from(partitions)).into(),
        }
    }

    fn part(&self) -> String {
        format!("consumer {}", self.name)
    }
}

/// What the supervisor keeps alive: something that subscribes to queues.
pub(crate) trait Subscriber: Sync {
    /// A subscribed channel.
    type Life<'a>: Send
    where
        Self: 'a;

    /// For metrics.
    fn name(&self) -> &'static str;
    /// Where it says how it is, and under which name.
    fn health(&self) -> (&Health, String);
    /// Subscribes.
    fn begin<'a>(&'a self, queue: &'a str) -> impl Future<Output = Result<Self::Life<'a>, Error>> + Send;
    /// Runs until the channel is lost or `stop`; finishes what is in hand in both cases.
    fn live<'a>(&'a self, life: Self::Life<'a>, stop: &'a CancellationToken) -> impl Future<Output = End> + Send;
}

/// Why the life of a channel ended.
pub(crate) enum End {
    Stopped,
    Lost(String),
}

impl Subscriber for Consumer {
    type Life<'a> = channel::Life<'a>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn health(&self) -> (&Health, String) {
        (&self.outbox.shared.health, self.part())
    }

    async fn begin<'a>(&'a self, queue: &'a str) -> Result<channel::Life<'a>, Error> {
        channel::Life::begin(self, queue).await
    }

    async fn live<'a>(&'a self, life: channel::Life<'a>, stop: &'a CancellationToken) -> End {
        life.run(stop).await
    }
}

/// One life of a channel after another.
pub(crate) async fn supervise<S: Subscriber>(
    subscriber: &S,
    queue: &str,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let ((health, part), name) = (subscriber.health(), subscriber.name());
    meters::describe_subscription(name);
    let mut failures = 0;
    while !stop.is_cancelled() {
        health.set(&part, Err(format!("not subscribed to {queue}")));
        meters::consumer_up(name, queue, false);
        // A life that is over waits for nothing; whoever takes up what it had in hand says whether they do.
        meters::consumer_paused(name, false);
        let ended = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            subscribed = subscriber.begin(queue) => match subscribed {
                Ok(life) => {
                    info!(queue, "subscribed");
                    meters::consumer_up(name, queue, true);
                    health.set(&part, Ok(format!("subscribed to {queue}")));
                    failures = 0;
                    // Not inside this select: a life that has begun is always ended in order.
                    Ok(life)
                }
                Err(error) => Err(error.to_string()),
            },
        };
        let reason = match ended {
            Ok(life) => match subscriber.live(life, stop).await {
                End::Stopped => return Ok(()),
                End::Lost(reason) => reason,
            },
            Err(reason) => reason,
        };
        if without("supervisor") {
            stop.cancelled().await;
        }
        failures += 1;
        meters::subscription_lost(name, 1);
        meters::consumer_up(name, queue, false);
        let delay = RECONNECT.delay(failures);
        health.set(&part, Err(format!("not subscribed to {queue}: {reason}")));
        if failures == ALERT_AFTER {
            error!(queue, reason, failures, "the consumer is deaf");
        } else {
            warn!(queue, reason, ?delay, "the subscription was lost and will be rebuilt");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
    }
    Ok(())
}
