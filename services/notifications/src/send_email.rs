//! Sending: the task that takes a notification to the mail server, outside any transaction, and records what became of it.
//! It decides nothing about who should get mail.

use std::sync::Arc;

use events::notifications::v1::{EmailFailed, EmailSent};
use failpoints::{hit, without};
use messaging::{HandlerError, Job, OutboxTransaction, Outcome, Task, TaskError};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    mail::{ComposeError, Composer},
    metrics,
    notification::{Notification, Turn},
    recipient::{Recipient, Whereabouts},
    redact::redact,
    smtp::{Smtp, Why},
    state::{Failure, State, Template},
};

/// Sends the mail of one notification; the job's id is the notification's.
pub(crate) struct SendEmail {
    pub(crate) pool: PgPool,
    pub(crate) composer: Arc<Composer>,
    pub(crate) smtp: Smtp,
    /// Whom the letters to the people who run the shop go to.
    pub(crate) operations: Recipient,
}

/// What became of a mail whose turn came.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// The mail server has it.
    Accepted(Notification),
    /// The mail server will never take it.
    Refused(Notification, String),
    /// There is nobody to send it to.
    NoAddress(Notification),
    /// Too late to be of use.
    Expired(Notification),
    /// Nothing to do: it is not waiting any more.
    Over,
}

impl Task for SendEmail {
    const NAME: &'static str = "send_email";
    type Done = Delivery;

    async fn perform(&self, job: &Job) -> Result<Delivery, TaskError> {
        let mut db = self.pool.acquire().await.map_err(TaskError::database)?;
        let notification = Notification::load(&mut db, job.id).await.map_err(TaskError::database)?;
        let Some(notification) = notification else {
            return Ok(Delivery::Over);
        };
        match notification.turn() {
            Turn::Over => return Ok(Delivery::Over),
            Turn::Expired => return Ok(Delivery::Expired(notification)),
            Turn::Send => {}
        }
        let recipient = match notification.user_id {
            None => Whereabouts::Known(self.operations.clone()),
            Some(user_id) => Recipient::find(&mut db, user_id).await.map_err(TaskError::database)?,
        };
        // The conversation takes as long as the mail server likes; the connection to the database does not wait for it.
        if without("sent-after-sending") {
            Notification::sent(&mut db, job.id, attempts(job.attempt)).await.map_err(TaskError::database)?;
        }
        drop(db);
        match recipient {
            Whereabouts::Known(recipient) => self.send(notification, &recipient).await,
            Whereabouts::Forgotten => Ok(Delivery::NoAddress(notification)),
            // Letters to whom nothing was heard of have no job; should there be one, the registration is still not given up.
            Whereabouts::Unknown => Err(TaskError::retry("nothing was heard of the account yet")),
        }
    }

    async fn record(
        &self,
        job: &Job,
        outcome: Outcome<Delivery>,
        tx: &mut OutboxTransaction,
    ) -> Result<(), HandlerError> {
        match outcome {
            Outcome::Done(Delivery::Accepted(notification)) => {
                Notification::sent(tx, notification.id, attempts(job.attempt)).await?;
                tx.publish(&EmailSent {
                    notification_id: notification.id.to_string(),
                    user_id: whose(&notification),
                    template: notification.template.name().into(),
                })?;
                metrics::became(notification.template, State::Sent);
            }
            Outcome::Done(Delivery::Refused(notification, reply)) => {
                give_up(&notification, Failure::Bounced, job.attempt, Some(&reply), tx).await?;
            }
            Outcome::Done(Delivery::NoAddress(notification)) => {
                give_up(&notification, Failure::NoAddress, job.attempt.saturating_sub(1), None, tx).await?;
            }
            Outcome::Done(Delivery::Expired(notification)) => {
                if Notification::expired(tx, notification.id).await? {
                    metrics::became(notification.template, State::Expired);
                }
            }
            Outcome::Done(Delivery::Over) | Outcome::Postponed { .. } => {}
            Outcome::Retrying { error, attempts: spent, .. } => {
                Notification::retrying(tx, job.id, attempts(spent), &error).await?;
            }
            Outcome::Failed { error, attempts: spent, .. } => {
                if let Some(notification) = Notification::load(tx, job.id).await? {
                    give_up(&notification, Failure::Exhausted, spent, Some(&error), tx).await?;
                }
            }
        }
        Ok(())
    }
}

impl SendEmail {
    /// Has the letter sent, once the transaction is committed.
    pub(crate) fn enqueue(tx: &mut OutboxTransaction, id: Uuid, template: Template) {
        if template.is_urgent() {
            tx.enqueue_urgent(Self::NAME, id);
        } else {
            tx.enqueue(Self::NAME, id);
        }
    }

    async fn send(&self, notification: Notification, recipient: &Recipient) -> Result<Delivery, TaskError> {
        let mail = match self.composer.compose(&notification, recipient) {
            Ok(mail) => mail,
            Err(ComposeError::Address(_)) => return Ok(Delivery::NoAddress(notification)),
            Err(ComposeError::Incomplete) => return Ok(Delivery::Expired(notification)),
            Err(error @ (ComposeError::Template(_) | ComposeError::Mail(_))) => return Err(TaskError::fail(error)),
        };
        let Err(refusal) = self.smtp.send(&mail).await else {
            hit("notifications.after_250").await.map_err(TaskError::unavailable)?;
            return Ok(Delivery::Accepted(notification));
        };
        let token = notification.content.as_ref().map(|content| content.token.as_str());
        // From here on only the redacted words exist: they are stored with the job, logged and shown.
        let reply = redact(&refusal.words, &recipient.email, token);
        match refusal.why {
            Why::Refused => Ok(Delivery::Refused(notification, reply)),
            Why::Deferred => Err(TaskError::retry(Reply(reply))),
            Why::Unavailable => Err(TaskError::unavailable(Reply(reply))),
        }
    }
}

/// What the mail server said, redacted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Reply(String);

async fn give_up(
    notification: &Notification,
    failure: Failure,
    spent: u32,
    error: Option<&str>,
    tx: &mut OutboxTransaction,
) -> Result<(), HandlerError> {
    if Notification::failed(tx, notification.id, failure, attempts(spent), error).await? {
        tx.publish(&EmailFailed {
            notification_id: notification.id.to_string(),
            user_id: whose(notification),
            template: notification.template.name().into(),
            reason: failure.reason().into(),
        })?;
        metrics::became(notification.template, failure.state());
    }
    Ok(())
}

/// As the announcements say it: empty for letters to the people who run the shop.
fn whose(notification: &Notification) -> String {
    notification.user_id.map(|user_id| user_id.to_string()).unwrap_or_default()
}

fn attempts(spent: u32) -> i32 {
    i32::try_from(spent).unwrap_or(i32::MAX)
}
