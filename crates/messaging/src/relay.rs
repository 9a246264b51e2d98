//! Moves committed events from the outbox to the broker: in order per key, with any number of relays.
//!
//! A relay works the lanes it holds on lease. It reads a window, publishes at most one unanswered event of each key at a time, waits for every
//! confirm, and then settles in one statement, while the next ones are with the broker. No transaction is open while it talks to the broker. It
//! never remembers how far it got: an event with a lower position can commit later, so every read begins at the oldest, less what is in hand.

mod answered;
mod hold;
mod housekeeping;
mod lanes;
mod round;
mod schedule;
mod wake;
mod window;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    Broker, Error, Outbox,
    error::{Verdict, database_verdict},
    meters, pool,
    publisher::CONFIRM_DEADLINE,
    relay::{lanes::Lanes, round::Channels, window::Window},
    retry::RECONNECT,
};

/// How the relay works. The defaults suit production.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// How many events are read at once, though hardly more than 8 MiB; up to twice as many are in hand.
    pub window: u16,
    /// How long a lane stays with a relay that has gone silent.
    pub lease: Duration,
    /// How long a window may stay unconfirmed before its fate counts as unknown.
    pub confirm_deadline: Duration,
    /// How often the outbox is looked at when nothing rings. Wake-ups are a hint; this is the truth.
    pub poll: Duration,
    /// Hears of other processes' commits by LISTEN, on a connection of its own beside the pool. Not through a transaction-mode pooler, which does not pass it on.
    pub listen: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            window: 1024,
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

/// The least time from one look at the outbox to the next when the first left nothing in hand. What comes meanwhile goes out together: each look
/// costs the database and the broker the same, however little it finds.
const PACE: Duration = Duration::from_millis(5);

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
        let released = self.outbox.answered(self.lanes.release_all(&self.outbox.pool)).await;
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
        let mut channels = Channels::open(&self.broker, self.options.confirm_deadline).await?;
        let mut window = Window::default();
        let mut progress = self.round(&mut channels, &mut window).await?;
        progress += self.settle(&mut window).await?;
        progress.left += window.unsent();
        self.lanes.release_surplus(&self.outbox.pool).await?;
        Ok(progress)
    }

    async fn pump(&self, stop: &CancellationToken) -> Result<(), Error> {
        let (mut channels, mut window) = (None, Window::default());
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
            let looked = Instant::now();
            // Interest is registered before looking, so that what commits in between rings.
            let rung = self.outbox.shared.wake.local.notified();
            let wait = match self.look(&mut channels, &mut window, at_the_latest.as_mut()).await {
                Ok(Some(progress)) => {
                    failures = 0;
                    self.outbox.shared.health.set("relay", self.holds());
                    if window.is_in_hand() {
                        too_late = futures_util::FutureExt::now_or_never(at_the_latest.as_mut()).is_some();
                        continue;
                    }
                    if progress.held > 0 {
                        // A quorum queue that was full tells a channel only when it has shrunk, not when its limit is lifted; a new
                        // channel asks anew.
                        channels = None;
                    }
                    self.options.poll
                }
                Ok(None) => break,
                Err(error) => {
                    channels = None;
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
            let rung_in_time = async {
                rung.await;
                tokio::time::sleep_until(looked + PACE).await;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = rung_in_time, if failures == 0 => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        // Sent and answered, and there was no further round.
        if let Err(error) = self.settle(&mut window).await {
            debug!(%error, "what was sent last is not settled and will be sent again");
        }
        Ok(())
    }

    /// As the check says it.
    fn holds(&self) -> Result<String, String> {
        if self.lanes.ran_out() {
            metrics::gauge!("messaging_relay_lanes").set(0.0);
            return Err("its lanes could not be renewed in time".into());
        }
        Ok(format!("holds {} of 16 lanes", self.lanes.count()))
    }

    /// One round, on channels that are opened when needed. None when it becomes too late while waiting for the broker.
    async fn look(
        &self,
        channels: &mut Option<Channels>,
        window: &mut Window,
        too_late: impl Future<Output = ()>,
    ) -> Result<Option<Progress>, Error> {
        if channels.as_ref().is_some_and(|channels| !channels.usable()) {
            *channels = None;
        }
        let channels = match channels {
            Some(channels) => channels,
            None => {
                self.lanes.idle();
                self.outbox.shared.health.set("relay", Err("waits for the broker".into()));
                let opened = tokio::select! {
                    () = too_late => return Ok(None),
                    opened = Channels::open(&self.broker, self.options.confirm_deadline) => opened?,
                };
                if self.lanes.at_work() {
                    self.outbox.answered(self.renew_lanes()).await?;
                }
                channels.insert(opened)
            }
        };
        self.round(channels, window).await.map(Some)
    }
}

/// Repeats a piece of upkeep until `stop`. What fails for a while is logged and tried again, and so is what takes longer than `deadline`.
pub(crate) async fn every<F: Future<Output = Result<(), sqlx::Error>>>(
    what: &str,
    period: Duration,
    deadline: Duration,
    stop: &CancellationToken,
    mut work: impl FnMut() -> F,
) -> Result<(), Error> {
    let mut failures = 0;
    loop {
        let wait = match pool::answered(deadline, work()).await {
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

impl std::ops::AddAssign for Progress {
    fn add_assign(&mut self, more: Self) {
        self.published += more.published;
        self.held += more.held;
        self.left += more.left;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn upkeep_that_gets_no_answer_is_given_up_and_tried_again() {
        let (stop, tries) = (CancellationToken::new(), Cell::new(0));
        let work = async || {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                return pending().await;
            }
            stop.cancel();
            Ok(())
        };
        let (period, deadline) = (Duration::from_secs(60), Duration::from_secs(30));
        // By the paused clock.
        tokio::time::timeout(Duration::from_secs(3600), every("a test", period, deadline, &stop, work))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(tries.get(), 2);
    }
}
