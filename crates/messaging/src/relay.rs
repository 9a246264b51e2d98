//! Moves committed events from the outbox to the broker: in order per key, with any number of relays.
//!
//! A relay works the lanes it holds on lease. It reads a window, publishes at most one unsettled event of each key at a time, waits for every
//! confirm, and then settles in one statement. No transaction is open while it talks to the broker. It never remembers how far it got:
//! an event with a lower position can commit later, so every window is read anew.

mod hold;
mod housekeeping;
mod lanes;
mod schedule;
mod wake;
mod window;

use std::{sync::Arc, time::Duration};

use failpoints::{hit, without};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, warn};

use crate::{
    Broker, Envelope, Error, Outbox,
    context::spans,
    error::{Verdict, database_verdict},
    meters,
    publisher::{CONFIRM_DEADLINE, Publisher, Route},
    relay::{lanes::Lanes, window::Window},
    retry::RECONNECT,
    topology::EVENTS_EXCHANGE,
};

/// How the relay works. The defaults suit production.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// How many events one window holds at most.
    pub window: u16,
    /// How long a lane stays with a relay that has gone silent.
    pub lease: Duration,
    /// How long a window may stay unconfirmed before its fate counts as unknown.
    pub confirm_deadline: Duration,
    /// How often the outbox is looked at when nothing rings. Wake-ups are a hint; this is the truth.
    pub poll: Duration,
    /// Hears of other processes' commits by LISTEN. Not through a transaction-mode pooler, which does not pass it on.
    pub listen: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            window: 512,
            lease: Duration::from_secs(15),
            confirm_deadline: CONFIRM_DEADLINE,
            poll: Duration::from_secs(1),
            listen: true,
        }
    }
}

/// The relay of one process. Every replica runs one.
#[derive(Clone)]
pub struct Relay {
    outbox: Outbox,
    broker: Broker,
    options: RelayOptions,
    lanes: Arc<Lanes>,
}

/// What one look at the outbox came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that the broker has taken, now settled.
    pub published: usize,
    /// Events that the broker refused or could not route, now held with their keys.
    pub held: usize,
    /// Events that are left for the next look because an earlier one of their key is held or was slow.
    pub left: usize,
}

/// For how long a relay that is told to stop still sends what is there.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Relay {
    /// A relay for the events of this outbox.
    pub fn new(outbox: &Outbox, broker: &Broker) -> Self {
        Self::with_options(outbox, broker, RelayOptions::default())
    }

    /// As [`Relay::new`], with other options.
    pub fn with_options(outbox: &Outbox, broker: &Broker, options: RelayOptions) -> Self {
        let lanes = Arc::new(Lanes::new(options.lease));
        Self { outbox: outbox.clone(), broker: broker.clone(), options, lanes }
    }

    /// Runs until `stop`, then settles what is in hand and gives its lanes back. Also promotes scheduled events and keeps the crate's tables
    /// in shape. Outages of the broker and the database are waited out; an error means that it cannot work at all.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        self.outbox.shared.health.set("relay", Err("starting".into()));
        meters::describe_relay();
        // The other parts outlive the pump, which needs its leases until it has settled.
        let pumped = CancellationToken::new();
        let pump = async {
            let result = self.pump(&stop).await;
            pumped.cancel();
            result
        };
        tokio::try_join!(
            pump,
            self.keep_lanes(&pumped),
            self.keep_house(&stop),
            self.promote(&stop),
            self.notify(&pumped),
            self.listen(&stop),
        )?;
        let released = self.lanes.release_all(&self.outbox.pool).await;
        self.outbox.shared.wake.held.store(0, std::sync::atomic::Ordering::Release);
        self.outbox.shared.health.set("relay", Err("stopped".into()));
        if let Err(error) = released {
            debug!(%error, "the lanes were not released and will expire");
        }
        Ok(())
    }

    /// One look at the outbox, for tests: takes what lanes it can, promotes what is due and publishes one window.
    pub async fn run_once(&self) -> Result<Progress, Error> {
        self.lanes.refresh(&self.outbox.pool).await?;
        self.promote_due().await?;
        let publisher = Publisher::open(&self.broker, self.options.confirm_deadline).await?;
        self.publish_window(&publisher).await
    }

    async fn pump(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut publisher: Option<Publisher> = None;
        let mut failures = 0_u32;
        // What was committed before `stop` is still sent, if that takes no longer.
        let at_the_latest = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::pin!(at_the_latest);
        let mut too_late = false;
        while !too_late {
            let stopping = stop.is_cancelled();
            // Interest is registered before looking, so that what commits in between rings.
            let rung = self.outbox.shared.wake.local.notified();
            let wait = match self.look(&mut publisher, at_the_latest.as_mut()).await {
                Ok(Some(progress)) => {
                    failures = 0;
                    self.outbox.shared.health.set("relay", Ok(format!("holds {} of 16 lanes", self.lanes.count())));
                    if progress.published > 0 {
                        too_late = futures_util::FutureExt::now_or_never(at_the_latest.as_mut()).is_some();
                        continue;
                    }
                    if progress.held > 0 {
                        // A quorum queue that was full tells a channel only when it has shrunk, not when its limit is lifted; a new
                        // channel asks anew.
                        publisher = None;
                    }
                    self.options.poll
                }
                Ok(None) => break,
                Err(error) => {
                    publisher = None;
                    if matches!(error, Error::Unconfirmed(_)) {
                        self.broker.publish_elsewhere();
                    }
                    failures += 1;
                    let delay = RECONNECT.delay(failures);
                    metrics::counter!("messaging_relay_failures_total").increment(1);
                    warn!(%error, ?delay, "the relay cannot publish; the events stay in the outbox");
                    self.outbox.shared.health.set("relay", Err(error.to_string()));
                    delay
                }
            };
            if stopping {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = rung, if failures == 0 => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// One window, on a channel that is opened when needed. None when it becomes too late while waiting for the broker.
    async fn look(
        &self,
        publisher: &mut Option<Publisher>,
        too_late: impl Future<Output = ()>,
    ) -> Result<Option<Progress>, Error> {
        if publisher.as_ref().is_some_and(|publisher| !publisher.usable()) {
            *publisher = None;
        }
        let publisher = match publisher {
            Some(publisher) => publisher,
            None => {
                let opened = tokio::select! {
                    () = too_late => return Ok(None),
                    opened = Publisher::open(&self.broker, self.options.confirm_deadline) => opened?,
                };
                publisher.insert(opened)
            }
        };
        self.publish_window(publisher).await.map(Some)
    }

    /// Reads a window, publishes it and settles it.
    async fn publish_window(&self, publisher: &Publisher) -> Result<Progress, Error> {
        let Some(lease) = self.lanes.lease() else { return Ok(Progress::default()) };
        let mut window = Window::read(&self.outbox, &lease, self.options.window).await?;
        if window.is_empty() {
            self.lanes.release_surplus(&self.outbox.pool).await?;
            return Ok(Progress::default());
        }
        if without("settle-after-confirm") {
            return window.settle_unsent(&self.outbox, &lease, publisher).await;
        }
        hit("relay.after_read").await.map_err(sqlx::Error::Io)?;
        let span = spans::send(EVENTS_EXCHANGE, &self.broker.publishing_to(), window.envelopes());
        let sent = async {
            // While something is answered, continue with the next event of each key; but not for so long that keys outside wait.
            let until = (Instant::now() + Duration::from_millis(20)).min(lease.deadline);
            loop {
                let wave = window.next_wave();
                if wave.is_empty() {
                    break;
                }
                let answers = publisher.publish_window(Route::Subscribers, &wave).await?;
                window.answer(&answers);
                if Instant::now() >= until {
                    break;
                }
            }
            hit("relay.before_settle").await.map_err(sqlx::Error::Io)?;
            let progress = window.settle(&self.outbox, &lease).await?;
            hit("relay.after_settle").await.map_err(sqlx::Error::Io)?;
            self.lanes.release_surplus(&self.outbox.pool).await?;
            Ok(progress)
        };
        let sent = sent.instrument(span.clone()).await;
        match &sent {
            Ok(Progress { held: 0, .. }) => {}
            Ok(Progress { held, .. }) => {
                spans::fail(&span, "refused", "the broker refused or could not route some of it");
                span.record("postrider.held", i64::try_from(*held).unwrap_or(i64::MAX));
            }
            Err(error) => spans::fail(&span, Error::kind(error), &error.to_string()),
        }
        sent
    }
}

/// Repeats a piece of upkeep until `stop`. What fails for a while is logged and tried again.
pub(crate) async fn every<F: Future<Output = Result<(), sqlx::Error>>>(
    what: &str,
    period: Duration,
    stop: &CancellationToken,
    mut work: impl FnMut() -> F,
) -> Result<(), Error> {
    let mut failures = 0;
    loop {
        let wait = match work().await {
            Ok(()) => {
                failures = 0;
                period
            }
            Err(error) if database_verdict(&error) == Verdict::Reject => return Err(error.into()),
            Err(error) => {
                failures += 1;
                let delay = RECONNECT.delay(failures);
                warn!(%error, ?delay, "{what} failed");
                delay
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Window {
    /// What a relay does that does not wait for the broker.
    async fn settle_unsent(
        mut self,
        outbox: &Outbox,
        lease: &lanes::Lease,
        publisher: &Publisher,
    ) -> Result<Progress, Error> {
        let mut sent = Vec::new();
        while !self.next_wave().is_empty() {
            sent.extend(self.answer_unasked());
        }
        let progress = self.settle(outbox, lease).await?;
        publisher.publish_window(Route::Subscribers, &sent.iter().collect::<Vec<_>>()).await?;
        Ok(progress)
    }

    fn envelopes(&self) -> impl Iterator<Item = &Envelope> {
        self.events().map(|event| &event.outgoing.envelope)
    }
}
