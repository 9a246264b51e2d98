//! What happens to accounts: addresses come, are proven and go, and their owners are written to.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::users::v1::{
    EmailVerificationRequested, PasswordChanged, PasswordResetRequested, RegistrationRepeated, UserDeleted,
    UserRegistered, UserVerified,
};
use messaging::{Event as _, Handler, HandlerError, OutboxTransaction};

use super::{Letter, user_id};
use crate::{
    mail::Composer,
    metrics,
    notification::Notification,
    recipient::Recipient,
    send_email::SendEmail,
    state::{State, Template},
};

/// Keeps the address of a new account, and sends what waited for it.
pub(super) struct RememberAddress;

impl Handler<UserRegistered> for RememberAddress {
    async fn handle(&self, event: UserRegistered, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let user_id = user_id(&event.user_id)?;
        Recipient::remember(tx, user_id, &event.email, &event.name).await?;
        for (id, template) in Notification::address_arrived(tx, user_id).await? {
            SendEmail::enqueue(tx, id, template);
        }
        Ok(())
    }
}

/// Notes that an address is proven.
pub(super) struct MarkVerified;

impl Handler<UserVerified> for MarkVerified {
    async fn handle(&self, event: UserVerified, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        Recipient::verified(tx, user_id(&event.user_id)?).await?;
        Ok(())
    }
}

/// Erases the address, what letters to it knew and what could not be handled, and cancels what was not sent.
pub(super) struct ForgetUser;

impl Handler<UserDeleted> for ForgetUser {
    async fn handle(&self, event: UserDeleted, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let user_id = user_id(&event.user_id)?;
        Recipient::forget(tx, user_id).await?;
        for template in Notification::forget_user(tx, user_id).await? {
            metrics::became(template, State::Cancelled);
        }
        tx.discard_dead_letters(UserDeleted::TYPE).await?;
        Ok(())
    }
}

/// Asks for a proof of the address.
pub(super) struct AskForProof(pub(super) Arc<Composer>);

impl Handler<EmailVerificationRequested> for AskForProof {
    async fn handle(&self, event: EmailVerificationRequested, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let link = Link::new(event.token, event.expires_at)?;
        let letter = Letter::to_user(Template::VerifyEmail, &event.user_id)?.with_link(link.token, link.expires_at);
        letter.intend(&self.0, tx).await
    }
}

/// Offers a new password.
pub(super) struct OfferNewPassword(pub(super) Arc<Composer>);

impl Handler<PasswordResetRequested> for OfferNewPassword {
    async fn handle(&self, event: PasswordResetRequested, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let link = Link::new(event.token, event.expires_at)?;
        let letter = Letter::to_user(Template::ResetPassword, &event.user_id)?.with_link(link.token, link.expires_at);
        letter.intend(&self.0, tx).await
    }
}

/// Tells that the password was changed.
pub(super) struct TellOfNewPassword(pub(super) Arc<Composer>);

impl Handler<PasswordChanged> for TellOfNewPassword {
    async fn handle(&self, event: PasswordChanged, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let letter = Letter::to_user(Template::PasswordChanged, &event.user_id)?;
        letter.intend(&self.0, tx).await
    }
}

/// Tells the owner of an address that somebody tried to register with it.
pub(super) struct TellOfAccount(pub(super) Arc<Composer>);

impl Handler<RegistrationRepeated> for TellOfAccount {
    async fn handle(&self, event: RegistrationRepeated, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let letter = Letter::to_user(Template::AccountExists, &event.user_id)?;
        letter.intend(&self.0, tx).await
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
