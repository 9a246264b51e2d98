//! Everything this service reacts to: one handler per event. A handler writes down what is to be done and nothing else; no
//! mail is sent here.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::users::v1::{
    EmailVerificationRequested, PasswordChanged, PasswordResetRequested, RegistrationRepeated, UserDeleted,
    UserRegistered, UserVerified,
};
use messaging::{Broker, Consumer, Handler, HandlerError, Outbox, OutboxTransaction, Task as _};
use uuid::Uuid;

use crate::{
    app::SERVICE,
    mail::Composer,
    metrics,
    notification::{Content, Intent, Notification},
    recipient::Recipient,
    send_email::SendEmail,
    state::{State, Template},
};

/// All of them, on the service's one queue.
pub(crate) fn consumer(broker: &Broker, outbox: &Outbox, composer: &Arc<Composer>) -> Consumer {
    Consumer::new(SERVICE, broker, outbox)
        .on::<UserRegistered>(RememberAddress)
        .on::<UserVerified>(MarkVerified)
        .on::<UserDeleted>(ForgetUser)
        .on::<EmailVerificationRequested>(AskForProof(Arc::clone(composer)))
        .on::<PasswordResetRequested>(OfferNewPassword(Arc::clone(composer)))
        .on::<PasswordChanged>(TellOfNewPassword(Arc::clone(composer)))
        .on::<RegistrationRepeated>(TellOfAccount(Arc::clone(composer)))
}

/// Keeps the address of a new account.
struct RememberAddress;

impl Handler<UserRegistered> for RememberAddress {
    async fn handle(&self, event: UserRegistered, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        Recipient::remember(tx, user_id(&event.user_id)?, &event.email, &event.name).await?;
        Ok(())
    }
}

/// Notes that an address is proven.
struct MarkVerified;

impl Handler<UserVerified> for MarkVerified {
    async fn handle(&self, event: UserVerified, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        Recipient::verified(tx, user_id(&event.user_id)?).await?;
        Ok(())
    }
}

/// Erases the address, what letters to it knew, and cancels what was not sent.
struct ForgetUser;

impl Handler<UserDeleted> for ForgetUser {
    async fn handle(&self, event: UserDeleted, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let user_id = user_id(&event.user_id)?;
        Recipient::forget(tx, user_id).await?;
        for template in Notification::forget_user(tx, user_id).await? {
            metrics::became(template, State::Cancelled);
        }
        Ok(())
    }
}

/// Asks for a proof of the address.
struct AskForProof(Arc<Composer>);

impl Handler<EmailVerificationRequested> for AskForProof {
    async fn handle(&self, event: EmailVerificationRequested, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let link = Link::new(event.token, event.expires_at)?;
        intend(&self.0, Template::VerifyEmail, &event.user_id, Some(link), tx).await
    }
}

/// Offers a new password.
struct OfferNewPassword(Arc<Composer>);

impl Handler<PasswordResetRequested> for OfferNewPassword {
    async fn handle(&self, event: PasswordResetRequested, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let link = Link::new(event.token, event.expires_at)?;
        intend(&self.0, Template::ResetPassword, &event.user_id, Some(link), tx).await
    }
}

/// Tells that the password was changed.
struct TellOfNewPassword(Arc<Composer>);

impl Handler<PasswordChanged> for TellOfNewPassword {
    async fn handle(&self, event: PasswordChanged, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        intend(&self.0, Template::PasswordChanged, &event.user_id, None, tx).await
    }
}

/// Tells the owner of an address that somebody tried to register with it.
struct TellOfAccount(Arc<Composer>);

impl Handler<RegistrationRepeated> for TellOfAccount {
    async fn handle(&self, event: RegistrationRepeated, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        intend(&self.0, Template::AccountExists, &event.user_id, None, tx).await
    }
}

/// The token of a letter and its end.
struct Link {
    token: String,
    expires_at: DateTime<Utc>,
}

impl Link {
    /// Refuses what could not stand in a link as it is (RFC 3986 §2.3) or has no end.
    fn new(token: String, expires_at: Option<prost_types::Timestamp>) -> Result<Self, HandlerError> {
        let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if token.is_empty() || !token.chars().all(unreserved) {
            return Err(HandlerError::reject("the token is empty or cannot stand in a link"));
        }
        let expires_at = expires_at
            .and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
            .ok_or_else(|| HandlerError::reject("`expires_at` is missing or not a time"))?;
        Ok(Self { token, expires_at })
    }
}

/// Stores the letter and has it sent. The same event again changes nothing.
async fn intend(
    composer: &Composer,
    template: Template,
    user: &str,
    link: Option<Link>,
    tx: &mut OutboxTransaction,
) -> Result<(), HandlerError> {
    let envelope = tx.envelope().ok_or_else(|| HandlerError::reject("an event arrived without its envelope"))?;
    let id = Intent::id_for(envelope.message_id, template);
    let (token, expires_at) = link.map(|link| (link.token, link.expires_at)).unzip();
    let intent = Intent {
        id,
        user_id: user_id(user)?,
        template,
        content: token.map(|token| Content { token }),
        expires_at,
        occurred_at: envelope.occurred_at,
        message_id: composer.message_id(id),
        trace_id: envelope.trace_id().map(str::to_owned),
    };
    if intent.insert(tx).await? {
        tx.enqueue(SendEmail::NAME, id);
        metrics::became(template, State::Pending);
    }
    Ok(())
}

fn user_id(text: &str) -> Result<Uuid, HandlerError> {
    text.parse().map_err(|error: uuid::Error| HandlerError::reject(format!("`user_id` is not a UUID: {error}")))
}
