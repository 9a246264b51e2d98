//! One lane: takes what is ready, tries it as one transaction, and takes it apart when something in it fails.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use failpoints::{hit, without};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    Consumer,
    consumer::{acks::Acks, channel::Message, parking::Parked, transaction::Fate},
    error::{HandlerError, Verdict},
    meters,
    retry::RECONNECT,
};

/// Tries of one message at once before a deadlock counts as a failure.
const DEADLOCK_RETRIES: u32 = 5;

pub(super) struct Lane {
    pub(super) consumer: Consumer,
    pub(super) acks: Arc<Acks>,
    /// The life of the channel is over: finish what is in hand and leave the rest to the next one.
    pub(super) ending: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
}

/// Told to stop while waiting; what is in hand goes back to the broker.
struct Ending;

impl Lane {
    pub(super) async fn run(self, mut deliveries: mpsc::Receiver<Message>) {
        while let Some(first) = deliveries.recv().await {
            let mut messages = vec![first];
            while messages.len() < self.consumer.options.batch.max(1)
                && let Ok(next) = deliveries.try_recv()
            {
                messages.push(next);
            }
            if self.take(messages).await.is_err() {
                return;
            }
        }
    }

    /// Runs of first-time deliveries go together; a redelivered or malformed message goes alone.
    async fn take(&self, messages: Vec<Message>) -> Result<(), Ending> {
        let mut rest = messages.as_slice();
        while let Some(first) = rest.first() {
            if self.ending.load(Ordering::Acquire) {
                return Err(Ending);
            }
            let suspect =
                |message: &Message| (message.redelivered && !without("suspicion")) || message.malformed.is_some();
            let run = if suspect(first) { 1 } else { rest.iter().position(suspect).unwrap_or(rest.len()) };
            let (now, later) = rest.split_at(run);
            if suspect(first) {
                // Alone in this process: should it die, it died over this one.
                let _alone = self.consumer.state.suspects.write().await;
                self.settle_alone(first, true).await?;
            } else {
                let _together = self.consumer.state.suspects.read().await;
                self.settle_batch(now).await?;
            }
            rest = later;
        }
        Ok(())
    }

    async fn settle_batch(&self, messages: &[Message]) -> Result<(), Ending> {
        if messages.len() > 1 {
            self.consumer.state.pause.over(&self.stop, &self.ending).await?;
            match self.consumer.try_messages(messages).await {
                Ok(fates) => {
                    self.resume();
                    self.acks.done(settled(messages, &fates)).await;
                    for (message, fate) in messages.iter().zip(fates) {
                        if fate == Fate::Behind {
                            self.settle_alone(message, false).await?;
                        }
                    }
                    return Ok(());
                }
                // Only the culprit shall suffer: one by one.
                Err(error) => debug!(?error, size = messages.len(), "a batch failed and is taken apart"),
            }
        }
        for message in messages {
            if self.ending.load(Ordering::Acquire) {
                return Err(Ending);
            }
            self.settle_alone(message, false).await?;
        }
        Ok(())
    }

    /// Tries one message until its fate is decided: handled, absorbed, or parked.
    async fn settle_alone(&self, message: &Message, suspect: bool) -> Result<(), Ending> {
        let mut deadlocks = 0;
        loop {
            self.consumer.state.pause.over(&self.stop, &self.ending).await?;
            let outcome = self.settle_once(message, suspect).await;
            let error = match outcome {
                Ok(()) => {
                    self.resume();
                    self.finish(message, suspect).await;
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.verdict() == Verdict::Again && deadlocks < DEADLOCK_RETRIES {
                deadlocks += 1;
                self.consumer.meters().deadlocks.increment(1);
                continue;
            }
            match self.consumer.outbox.answered(self.put_aside(message, error)).await {
                Ok(()) => {
                    self.finish(message, suspect).await;
                    return Ok(());
                }
                // The database or what the handler needs is away. Nothing is decided and no attempt is spent.
                Err(error) => {
                    if suspect && !without("unmarked-pause") {
                        // Whoever takes it next would count a death of this process.
                        self.unmark(message).await;
                    }
                    // What fails in several lanes at once is one failure.
                    if let Extended::By(delay) = self.consumer.state.pause.extend() {
                        warn!(consumer = self.consumer.name, error = error.message(), ?delay, "paused");
                    }
                    meters::consumer_paused(self.consumer.name, true);
                    let part = self.consumer.part();
                    self.consumer.outbox.shared.health.set(&part, Err(format!("paused: {}", error.message())));
                }
            }
        }
    }

    /// Parks or buries a message that failed, unless it was nobody's fault: then that is returned.
    async fn put_aside(&self, message: &Message, error: HandlerError) -> Result<(), HandlerError> {
        match error.verdict() {
            Verdict::Unavailable if without("pause") => self.consumer.park(message, &error.message()).await,
            Verdict::Reject if without("reject") => Err(error),
            Verdict::Reject if without("dead-letters") => Ok(()),
            Verdict::Retry | Verdict::Again if without("retries") => Ok(()),
            Verdict::Unavailable => Err(error),
            Verdict::Reject => self.consumer.bury(message, &error.message()).await,
            Verdict::Retry | Verdict::Again => self.consumer.park(message, &error.message()).await,
        }
    }

    async fn settle_once(&self, message: &Message, suspect: bool) -> Result<(), HandlerError> {
        if let Some(reason) = &message.malformed {
            return Err(HandlerError::reject(reason.clone()));
        }
        if suspect {
            let marking = self.consumer.mark_in_hand(message.envelope.message_id);
            let deaths = self.consumer.outbox.answered(marking).await?;
            hit("consumer.suspect_marked").await.map_err(sqlx::Error::Io)?;
            if deaths >= self.consumer.options.max_deaths {
                return Err(HandlerError::reject(format!("{deaths} processes died while they had it in hand")));
            }
        }
        loop {
            let fates = self.consumer.try_messages(std::slice::from_ref(message)).await?;
            if fates != [Fate::Behind] {
                return Ok(());
            }
            if self.consumer.outbox.answered(self.consumer.park_behind(message)).await? == Parked::Yes {
                return Ok(());
            }
            // What was ahead has just left: now it is this one's turn.
        }
    }

    /// The fate of a message is decided and committed.
    async fn finish(&self, message: &Message, suspect: bool) {
        if suspect {
            self.unmark(message).await;
        }
        self.acks.done([message.tag]).await;
    }

    async fn unmark(&self, message: &Message) {
        let unmarking = self.consumer.unmark(message.envelope.message_id);
        if let Err(error) = self.consumer.outbox.answered(unmarking).await {
            debug!(%error, "a mark stays behind and will be swept up");
        }
    }

    fn resume(&self) {
        if self.consumer.state.pause.clear() {
            meters::consumer_paused(self.consumer.name, false);
            self.consumer.outbox.shared.health.set(&self.consumer.part(), Ok("subscribed".into()));
        }
    }
}

fn settled(messages: &[Message], fates: &[Fate]) -> Vec<u64> {
    messages.iter().zip(fates).filter(|(_, fate)| **fate != Fate::Behind).map(|(message, _)| message.tag).collect()
}

/// How long a pause still lasts, and who made it that long.
pub(super) enum Extended {
    By(Duration),
    /// Another lane, just now.
    Before(Duration),
}

impl Extended {
    pub(super) fn delay(&self) -> Duration {
        let (Self::By(delay) | Self::Before(delay)) = self;
        *delay
    }
}

/// A consumer that waits for something outside, with all its lanes.
#[derive(Default)]
pub(super) struct Pause {
    state: Mutex<(u32, Option<Instant>)>,
}

impl Pause {
    /// Waits until the pause is over.
    async fn over(&self, stop: &CancellationToken, ending: &AtomicBool) -> Result<(), Ending> {
        loop {
            let until = self.lock().1;
            match until.filter(|until| *until > Instant::now()) {
                None => return Ok(()),
                Some(until) => tokio::select! {
                    () = stop.cancelled() => return Err(Ending),
                    () = tokio::time::sleep_until(until.min(Instant::now() + Duration::from_millis(500))) => {}
                },
            }
            if ending.load(Ordering::Acquire) {
                return Err(Ending);
            }
        }
    }

    /// Longer each time, unless the pause was already made longer by another lane.
    pub(super) fn extend(&self) -> Extended {
        let mut state = self.lock();
        let now = Instant::now();
        match state.1 {
            Some(until) if until > now => Extended::Before(until - now),
            _ => {
                state.0 += 1;
                let delay = RECONNECT.delay(state.0);
                state.1 = Some(now + delay);
                Extended::By(delay)
            }
        }
    }

    /// Ends the pause; says whether there was one.
    fn clear(&self) -> bool {
        std::mem::take(&mut *self.lock()).0 > 0
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.lock().1.filter(|until| *until > Instant::now())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u32, Option<Instant>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
