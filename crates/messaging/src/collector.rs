//! Takes lines of logs off their queue in bulk: what is ready, in one transaction, acknowledged when it is committed.
//!
//! Collectors of one name share a queue, in every process: they compete, and there is no order. A line may come twice, so whoever stores
//! lines must tell by their ids what is there already. There is no inbox, no retry for single lines and no dead letter: what cannot be read or
//! stored is dropped and counted, so that it stands in nobody's way. When the database is away, nothing is taken: the broker keeps the lines, up to
//! the bound of their queue.

mod life;

use std::{marker::PhantomData, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use failpoints::hit;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Broker, Error, Event, HandlerError, Outbox, OutboxTransaction,
    consumer::{self, transaction::panic_message},
    meters,
    topology::Subscription,
};
use life::Raw;

/// How a collector works. The defaults suit production.
#[derive(Clone, Copy, Debug)]
pub struct CollectorOptions {
    /// How many lines one transaction takes at most.
    pub batch: u16,
    /// How long the first line of a batch may wait for others.
    pub linger: Duration,
    /// How long one transaction may take.
    pub deadline: Duration,
    /// How often a batch that fails, though the database is there, is tried again before it is taken apart.
    pub attempts: u32,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        Self { batch: 1_000, linger: Duration::from_millis(100), deadline: Duration::from_secs(30), attempts: 5 }
    }
}

/// A line, and who wrote it.
#[derive(Clone, Debug)]
pub struct Line<E> {
    /// The service that wrote it. The broker lets no service write another one's lines.
    pub service: String,
    /// What it says. Its key is the line's id.
    pub event: E,
}

/// Stores lines, many at a time.
pub trait BulkHandler<E: Event>: Send + Sync + 'static {
    /// Stores lines in the transaction, whatever of them is not there yet: they may come again. An error rolls everything back. The batch is
    /// tried again; when it fails all the same, line by line, and then only the culprits are dropped.
    fn handle(
        &self,
        lines: &[Line<E>],
        tx: &mut OutboxTransaction,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Collects lines of one type, of all services. Every replica runs the same.
#[derive(Clone)]
pub struct Collector {
    name: &'static str,
    broker: Broker,
    outbox: Outbox,
    handler: Arc<dyn ErasedHandler>,
    options: CollectorOptions,
}

impl Collector {
    /// A collector. The name is the queue's.
    pub fn new<E: Event>(name: &'static str, broker: &Broker, outbox: &Outbox, handler: impl BulkHandler<E>) -> Self {
        let handler = Arc::new(Erased { handler, event: PhantomData });
        let options = CollectorOptions::default();
        Self { name, broker: broker.clone(), outbox: outbox.clone(), handler, options }
    }

    /// Other options.
    pub fn options(mut self, options: CollectorOptions) -> Self {
        self.options = options;
        self
    }

    /// What the topology must hold for this collector.
    pub fn subscription(&self) -> Subscription {
        Subscription::logs(self.name)
    }

    /// Has [`Outbox::health`](crate::Outbox::health) say that it does not run yet, for whoever looks before it does.
    pub fn announce(&self) {
        self.outbox.shared.health.set(&self.part(), Err("not started yet".into()));
    }

    /// Collects until `stop`, then finishes what is in hand and acknowledges it. Outages of the broker and the database are waited out.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        meters::describe_collector(self.name);
        meters::consumer_paused(self.name, false);
        consumer::supervise(self, self.name, &stop).await?;
        self.outbox.shared.health.set(&self.part(), Err("stopped".into()));
        Ok(())
    }

    fn part(&self) -> String {
        format!("collector {}", self.name)
    }

    /// Stores lines in one transaction, all or nothing, under its deadline, with panics caught.
    async fn store(&self, lines: &[Raw]) -> Result<(), HandlerError> {
        let stored = AssertUnwindSafe(async {
            let mut tx = self.outbox.begin().await?;
            self.handler.handle(lines, &mut tx).await?;
            hit("collector.before_commit").await.map_err(sqlx::Error::Io)?;
            tx.commit().await?;
            hit("collector.after_commit").await.map_err(sqlx::Error::Io)?;
            Ok(())
        });
        match timeout(self.options.deadline, stored.catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(HandlerError::reject(format!("the handler panicked: {}", panic_message(&*panic)))),
            Err(_elapsed) => Err(HandlerError::retry(format!("it took longer than {:?}", self.options.deadline))),
        }
    }

    fn dropped_because(&self, reason: &'static str) {
        metrics::counter!("messaging_log_refused_total", "consumer" => self.name, "reason" => reason).increment(1);
    }
}

/// A handler whose event type is erased.
trait ErasedHandler: Send + Sync {
    /// Whether the handler can read it.
    fn is_readable(&self, line: &Raw) -> bool;
    fn handle<'a>(&'a self, lines: &'a [Raw], tx: &'a mut OutboxTransaction)
    -> BoxFuture<'a, Result<(), HandlerError>>;
}

struct Erased<H, E> {
    handler: H,
    event: PhantomData<fn() -> E>,
}

impl<E: Event, H: BulkHandler<E>> ErasedHandler for Erased<H, E> {
    fn is_readable(&self, line: &Raw) -> bool {
        line.event_type == E::TYPE && E::decode(line.payload.as_slice()).is_ok_and(|event| !event.key().is_empty())
    }

    fn handle<'a>(
        &'a self,
        lines: &'a [Raw],
        tx: &'a mut OutboxTransaction,
    ) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async move {
            let read = |line: &Raw| {
                let event = E::decode(line.payload.as_slice()).map_err(HandlerError::reject)?;
                Ok(Line { service: line.service.clone(), event })
            };
            let lines = lines.iter().map(read).collect::<Result<Vec<_>, HandlerError>>()?;
            self.handler.handle(&lines, tx).await
        })
    }
}
