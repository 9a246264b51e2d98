//! Publishes windows of messages and knows the fate of each one: published means confirmed by the broker and not returned by it.

use std::{collections::HashSet, time::Duration};

use failpoints::{hit, without};
use lapin::{
    Channel, Confirmation, ErrorKind, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;
use uuid::Uuid;

use crate::{Broker, Envelope, Error, broker::REQUEST_TIMEOUT, event};

/// How long a window may stay unconfirmed. Long: on a live channel a late confirm is only late.
pub(crate) const CONFIRM_DEADLINE: Duration = Duration::from_secs(30);

/// A channel in confirm mode on the publishing connection.
pub(crate) struct Publisher {
    broker: Broker,
    channel: Channel,
    confirm_deadline: Duration,
}

/// What the broker said of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Confirmed, and routed to at least one queue.
    Published,
    /// Confirmed, but no queue is bound for it: nobody has it.
    Unroutable,
    /// Refused, such as by a full queue.
    Nacked,
    /// The broker closes the channel over it, as over one that this user may not publish.
    Refused,
}

/// A message on its way out.
pub(crate) struct Outgoing {
    pub(crate) envelope: Envelope,
    pub(crate) payload: Vec<u8>,
}

impl Publisher {
    /// Waits for the connection and opens a channel.
    pub(crate) async fn open(broker: &Broker, confirm_deadline: Duration) -> Result<Self, Error> {
        let channel = broker.publish_channel().await?;
        let selected = timeout(REQUEST_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default()));
        selected.await.map_err(|_| Error::Unconfirmed("the broker does not answer confirm.select".into()))??;
        Ok(Self { broker: broker.clone(), channel, confirm_deadline })
    }

    pub(crate) fn usable(&self) -> bool {
        self.channel.status().connected()
    }

    /// As [`Publisher::publish_window`], and goes on when the broker closes the channel over a message: in halves, until that message stands alone.
    pub(crate) async fn publish_each(&mut self, route: Route<'_>, window: &[&Outgoing]) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(window.len());
        let mut rest = vec![window];
        while let Some(part) = rest.pop() {
            let error = match self.publish_window(route, part).await {
                Ok(answered) => {
                    answers.extend(answered);
                    continue;
                }
                Err(error) if is_about_a_message(&error) && !without("halves") => error,
                Err(error) => return Err(error),
            };
            *self = match timeout(REQUEST_TIMEOUT, Self::open(&self.broker, self.confirm_deadline)).await {
                Ok(opened) => opened?,
                Err(_) => return Err(error),
            };
            if let [message] = part {
                let Envelope { event_type, message_id, .. } = &message.envelope;
                warn!(event_type, %message_id, %error, "the broker closes the channel over a message");
                answers.push(Answer::Refused);
            } else {
                let (first, second) = part.split_at(part.len() / 2);
                rest.extend([second, first]);
            }
        }
        Ok(answers)
    }

    /// Publishes a window, persistent and mandatory, and waits for every confirm of it. The answers are in the window's order.
    ///
    /// An error means that the fate of the whole window is unknown: this publisher must be dropped, and the window published again
    /// with the same ids. Returned messages are told by their ids only when the window is complete, because lapin hands a return to
    /// whichever confirm completes next.
    pub(crate) async fn publish_window(&self, route: Route<'_>, window: &[&Outgoing]) -> Result<Vec<Answer>, Error> {
        let deadline = Instant::now() + self.confirm_deadline;
        let late = |_| Error::Unconfirmed(format!("{} messages within {:?}", window.len(), self.confirm_deadline));

        let mut confirms = Vec::with_capacity(window.len());
        for message in window {
            let (exchange, routing_key) = route.of(&message.envelope);
            let sent = self.channel.basic_publish(
                exchange.into(),
                routing_key.into(),
                BasicPublishOptions { mandatory: true, immediate: false },
                &message.payload,
                message.envelope.properties(),
            );
            // A blocked connection writes nothing, so even sending has a deadline.
            match timeout_at(deadline, sent).await.map_err(late)? {
                Ok(confirm) => confirms.push(confirm),
                Err(error) => return Err(why_closed(confirms, deadline).await.unwrap_or(error).into()),
            }
        }

        hit("relay.before_confirms").await.map_err(lapin::Error::from)?;
        let mut acked = Vec::with_capacity(window.len());
        let mut returned = HashSet::new();
        for confirm in confirms {
            let confirmation = match timeout_at(deadline, confirm).await {
                Err(_) if without("confirm-deadline") => Confirmation::Ack(None),
                confirmed => confirmed.map_err(late)??,
            };
            acked.push(confirmation.is_ack());
            if without("returns") {
                continue;
            }
            if without("return-ids") {
                // The confirm that carries a return is not always the one it belongs to.
                let carried = matches!(confirmation, Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)));
                returned.extend(carried.then(|| window[acked.len() - 1].envelope.message_id));
                continue;
            }
            if let Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message)) = confirmation {
                returned
                    .extend(message.properties.message_id().as_ref().and_then(|id| id.as_str().parse::<Uuid>().ok()));
            }
        }
        Ok(window
            .iter()
            .zip(acked)
            .map(|(message, acked)| match acked {
                _ if returned.contains(&message.envelope.message_id) => Answer::Unroutable,
                true => Answer::Published,
                false => Answer::Nacked,
            })
            .collect())
    }
}

/// Why a channel takes nothing any more: its open confirms know.
async fn why_closed(confirms: Vec<PublisherConfirm>, deadline: Instant) -> Option<lapin::Error> {
    for confirm in confirms {
        if let Err(error) = timeout_at(deadline, confirm).await.ok()? {
            return Some(error);
        }
    }
    None
}

/// Whether the broker closed the channel over one of the messages: the user may not publish it (403), or it is not what the broker takes, such as too
/// long (406). Over a missing exchange (404) it closes every channel.
fn is_about_a_message(error: &Error) -> bool {
    let Error::Broker(error) = error else { return false };
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED))
}

/// Where a window goes.
#[derive(Clone, Copy)]
pub(crate) enum Route<'a> {
    /// To everyone who subscribes to the event's type.
    Subscribers,
    /// To one consumer, as a replay.
    Consumer(&'a str),
}

impl Route<'_> {
    fn of(self, envelope: &Envelope) -> (&'static str, String) {
        match self {
            Self::Subscribers => {
                (crate::topology::EVENTS_EXCHANGE, event::routing_key(&envelope.event_type, envelope.lane()))
            }
            Self::Consumer(consumer) => {
                (crate::topology::REPLAY_EXCHANGE, event::routing_key(consumer, envelope.lane()))
            }
        }
    }
}
