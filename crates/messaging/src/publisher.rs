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
    /// Not taken, such as by a full queue.
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
        match self.publish_window(route, window).await {
            Err(error) if is_about_a_message(&error) && !without("halves") => {
                self.publish_halves(route, window, error).await
            }
            answered => answered,
        }
    }

    async fn publish_halves(
        &mut self,
        route: Route<'_>,
        window: &[&Outgoing],
        mut error: Error,
    ) -> Result<Vec<Answer>, Error> {
        let mut answers = vec![Answer::Refused; window.len()];
        // What may not be published, may not whatever is in it.
        let mut forbidden = HashSet::new();
        let (mut part, mut rest) = ((0..window.len()).collect::<Vec<_>>(), Vec::new());
        loop {
            // The broker has closed the channel over one of these.
            *self = match timeout(REQUEST_TIMEOUT, Self::open(&self.broker, self.confirm_deadline)).await {
                Ok(opened) => opened?,
                Err(_) => return Err(error),
            };
            if let [alone] = *part {
                let Envelope { event_type, message_id, .. } = &window[alone].envelope;
                warn!(event_type, %message_id, %error, "the broker closes the channel over a message");
                if is_forbidden(&error) {
                    forbidden.insert(event_type.as_str());
                }
            } else {
                let second = part.split_off(part.len() / 2);
                rest.extend([second, part]);
            }
            loop {
                let Some(next) = rest.pop() else { return Ok(answers) };
                part = next;
                part.retain(|message| !forbidden.contains(window[*message].envelope.event_type.as_str()));
                let messages: Vec<_> = part.iter().map(|message| window[*message]).collect();
                match self.publish_window(route, &messages).await {
                    Ok(answered) => part.iter().zip(answered).for_each(|(message, answer)| answers[*message] = answer),
                    Err(closed) if is_about_a_message(&closed) => {
                        error = closed;
                        break;
                    }
                    Err(other) => return Err(other),
                }
            }
        }
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

/// Whether the broker closed the channel over one of the messages: it is not what the broker takes, such as too long (406), or of a type that the
/// user may not publish. Over an exchange that is missing (404) it closes every channel.
fn is_about_a_message(error: &Error) -> bool {
    is_forbidden(error) || closed_with(error, AMQPSoftError::PRECONDITIONFAILED).is_some()
}

/// Whether the user may not publish this type. Whether it may publish to the exchange at all has the same code (403): only the text tells.
fn is_forbidden(error: &Error) -> bool {
    closed_with(error, AMQPSoftError::ACCESSREFUSED).is_some_and(|text| text.contains("access to topic "))
}

/// What the broker said as it closed the channel with this code.
fn closed_with(error: &Error, code: AMQPSoftError) -> Option<&str> {
    let Error::Broker(error) = error else { return None };
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    (*error.kind() == AMQPErrorKind::Soft(code)).then(|| error.get_message().as_str())
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
