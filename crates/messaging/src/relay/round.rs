//! One round of a relay: a wave goes to the broker while the one before it is settled and more is read. No transaction is open meanwhile.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use failpoints::{hit, without};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    Broker, Error,
    context::spans,
    publisher::{Publisher, Route},
    relay::{
        Progress, Relay,
        answered::Answered,
        lanes::Lease,
        window::{self, PendingEvent, Wave, Window},
    },
    topology::EVENTS_EXCHANGE,
};

/// How long keys with several events go on when nothing else is on its way: keys that are not in hand shall not wait for longer.
const ALONE: Duration = Duration::from_millis(20);

/// The channels of a relay. A return cannot be told from its channel's other ones before all are confirmed, so what goes on beside
/// a large wave has a channel of its own.
pub(super) struct Channels {
    /// For events that are the only one of their key in hand: all at once.
    singles: Publisher,
    /// For keys with several events in hand: one of each key at a time.
    queues: Publisher,
}

impl Channels {
    pub(super) async fn open(broker: &Broker, confirm_deadline: Duration) -> Result<Self, Error> {
        let singles = Publisher::open(broker, confirm_deadline).await?;
        Ok(Self { singles, queues: Publisher::open(broker, confirm_deadline).await? })
    }

    pub(super) fn usable(&self) -> bool {
        self.singles.usable() && self.queues.usable()
    }
}

impl Relay {
    /// Reads if nothing is in hand, publishes a wave, and settles what was answered before. After an error nothing is in hand: the fate of a
    /// wave is unknown then, and all of it is read again.
    pub(super) async fn round(&self, channels: &mut Channels, window: &mut Window) -> Result<Progress, Error> {
        let result = self.try_round(channels, window).await;
        if result.is_err() {
            *window = Window::default();
        }
        result
    }

    async fn try_round(&self, channels: &mut Channels, window: &mut Window) -> Result<Progress, Error> {
        let Some(lease) = self.lanes.lease() else {
            let progress = self.settle(window).await?;
            *window = Window::default();
            return Ok(progress);
        };
        let mut progress = Progress::default();
        if self.lanes.has_surplus() {
            // A lane moves when nothing of it is in hand.
            window.forget_unsent();
            progress += self.settle(window).await?;
            self.outbox.answered(self.lanes.release_surplus(&self.outbox.pool)).await?;
        }
        window.keep_to(&lease);
        if window.is_empty() && !window.has_answered() {
            window.look_again();
            if let Some(wanted) = window.wanted(&lease, self.options.window, &Wave::default()) {
                let read = self.outbox.answered(window::read(&self.outbox, &lease, &wanted)).await?;
                window.take_in(&wanted, read);
            }
            if window.is_empty() {
                return Ok(progress);
            }
            hit("relay.after_read").await.map_err(sqlx::Error::Io)?;
        }
        let wave = window.next_wave();
        if without("settle-after-confirm") {
            return self.settle_unasked(channels, wave, &lease).await;
        }
        let wanted = window.wanted(&lease, self.options.window, &wave);
        let before = window.take_answered();
        let keeping = async {
            let settled = before.settle(&self.outbox, &lease).await?;
            let read = match &wanted {
                Some(wanted) => Some(window::read(&self.outbox, &lease, wanted).await?),
                None => None,
            };
            Ok::<_, sqlx::Error>((settled, read))
        };
        // Neither is cancelled when the other one fails: what was answered before is settled all the same.
        let (sent, kept) = tokio::join!(self.send(channels, wave, &lease), self.outbox.answered(keeping));
        let ((answered, unsent), (settled, read)) = (sent?, kept?);
        progress += settled;
        window.take_back(answered, unsent);
        if let (Some(wanted), Some(read)) = (&wanted, read) {
            window.take_in(wanted, read);
        }
        if before.releases() {
            window.look_again();
        }
        if window.is_empty() && !window.has_more() {
            // Nothing to do meanwhile.
            progress += self.settle(window).await?;
        }
        Ok(progress)
    }

    /// Settles what was answered, with nothing beside it.
    pub(super) async fn settle(&self, window: &mut Window) -> Result<Progress, Error> {
        let answered = window.take_answered();
        let Some(lease) = window.lease() else { return Ok(Progress::default()) };
        let progress = self.outbox.answered(answered.settle(&self.outbox, lease)).await?;
        if answered.releases() {
            window.look_again();
        }
        Ok(progress)
    }

    /// Publishes a wave; what the broker said, and what was not sent for want of time.
    async fn send(
        &self,
        channels: &mut Channels,
        wave: Wave,
        lease: &Lease,
    ) -> Result<(Answered, Vec<VecDeque<PendingEvent>>), Error> {
        if wave.is_empty() {
            return Ok((Answered::default(), Vec::new()));
        }
        let span = spans::send(EVENTS_EXCHANGE, &self.broker.publishing_to(), wave.envelopes());
        let Wave { single, queues } = wave;
        let busy = AtomicBool::new(!single.is_empty());
        let Channels { singles, queues: one_each } = channels;
        let singles = async {
            let mut answered = Answered::default();
            publish(singles, single, &mut answered).await?;
            busy.store(false, Ordering::Relaxed);
            Ok(answered)
        };
        let sending = async { tokio::try_join!(singles, one_by_one(one_each, queues, lease, &busy)) };
        let sent = sending.instrument(span.clone()).await;
        match sent {
            Ok((mut answered, (others, unsent))) => {
                answered.append(others);
                if answered.held() > 0 {
                    spans::fail(&span, "refused", "the broker refused or could not route some of it");
                    span.record("postrider.held", i64::try_from(answered.held()).unwrap_or(i64::MAX));
                }
                Ok((answered, unsent))
            }
            Err(error) => {
                spans::fail(&span, Error::kind(&error), &error.to_string());
                Err(error)
            }
        }
    }

    /// What a relay does that does not wait for the broker.
    async fn settle_unasked(&self, channels: &mut Channels, mut wave: Wave, lease: &Lease) -> Result<Progress, Error> {
        let unasked = Answered::unasked(wave.answer_unasked());
        let progress = unasked.settle(&self.outbox, lease).await?;
        channels.singles.publish_window(Route::Subscribers, &unasked.events().collect::<Vec<_>>()).await?;
        Ok(progress)
    }
}

/// Publishes these at once. Which of them the broker took.
async fn publish(
    publisher: &mut Publisher,
    events: Vec<PendingEvent>,
    answered: &mut Answered,
) -> Result<Vec<bool>, Error> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let outgoing: Vec<_> = events.iter().map(|event| &event.outgoing).collect();
    let answers = publisher.publish_each(Route::Subscribers, &outgoing).await?;
    Ok(answered.add(events, &answers))
}

/// The events of each of these keys one after the other, while others are busy, and for a moment if nobody is. What is not sent by then is
/// given back, in order.
async fn one_by_one(
    publisher: &mut Publisher,
    mut queues: Vec<VecDeque<PendingEvent>>,
    lease: &Lease,
    others_are_busy: &AtomicBool,
) -> Result<(Answered, Vec<VecDeque<PendingEvent>>), Error> {
    let mut answered = Answered::default();
    let alone_until = Instant::now() + ALONE;
    while !queues.is_empty() {
        let next = queues.iter_mut().filter_map(VecDeque::pop_front).collect();
        let taken = publish(publisher, next, &mut answered).await?;
        for (queue, _) in queues.iter_mut().zip(taken).filter(|(_, taken)| !taken) {
            answered.leave(queue);
            queue.clear();
        }
        queues.retain(|queue| !queue.is_empty());
        let now = Instant::now();
        if now >= lease.deadline || now >= alone_until && !others_are_busy.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok((answered, queues))
}
