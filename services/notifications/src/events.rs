//! Everything this service reacts to: one handler per event. A handler writes down what is to be done and nothing else; no
//! mail is sent here.

mod accounts;
mod orders;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{
    inventory::v1::StockLow,
    orders::v1::{OrderCancelled, OrderConfirmed},
    payments::v1::PaymentRefunded,
    users::v1::{
        EmailVerificationRequested, PasswordChanged, PasswordResetRequested, RegistrationRepeated, UserDeleted,
        UserRegistered, UserVerified,
    },
};
use messaging::{Broker, Consumer, HandlerError, Outbox, OutboxTransaction};
use uuid::Uuid;

use crate::{
    app::NAME,
    details::Details,
    intent::Intent,
    mail::Composer,
    metrics,
    notification::Content,
    recipient::Recipient,
    send_email::SendEmail,
    state::{State, Template},
};
use accounts::{
    AskForProof, ForgetUser, MarkVerified, OfferNewPassword, RememberAddress, TellOfAccount, TellOfNewPassword,
};
use orders::{TellOfCancellation, TellOfConfirmation, TellOfLowStock, TellOfRefund};

/// All of them, on the service's one queue.
pub(crate) fn consumer(broker: &Broker, outbox: &Outbox, composer: &Arc<Composer>) -> Consumer {
    let composer = || Arc::clone(composer);
    Consumer::new(NAME, broker, outbox)
        .on::<UserRegistered>(RememberAddress)
        .on::<UserVerified>(MarkVerified)
        .on::<UserDeleted>(ForgetUser)
        .on::<EmailVerificationRequested>(AskForProof(composer()))
        .on::<PasswordResetRequested>(OfferNewPassword(composer()))
        .on::<PasswordChanged>(TellOfNewPassword(composer()))
        .on::<RegistrationRepeated>(TellOfAccount(composer()))
        .on::<OrderConfirmed>(TellOfConfirmation(composer()))
        .on::<OrderCancelled>(TellOfCancellation(composer()))
        .on::<PaymentRefunded>(TellOfRefund(composer()))
        .on::<StockLow>(TellOfLowStock(composer()))
}

/// The letter that an event asks for.
struct Letter {
    user_id: Option<Uuid>,
    template: Template,
    link: Option<(String, DateTime<Utc>)>,
    details: Option<Details>,
}

impl Letter {
    fn to_user(template: Template, user: &str) -> Result<Self, HandlerError> {
        Ok(Self { user_id: Some(user_id(user)?), ..Self::to_operations(template) })
    }

    fn to_operations(template: Template) -> Self {
        Self { user_id: None, template, link: None, details: None }
    }

    fn with_link(self, token: String, expires_at: DateTime<Utc>) -> Self {
        Self { link: Some((token, expires_at)), ..self }
    }

    fn with_details(self, details: Details) -> Self {
        Self { details: Some(details), ..self }
    }

    /// Stores the letter and has it sent, at once or when the address is known. The same event again changes nothing.
    async fn intend(self, composer: &Composer, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let waits_for_address = match self.user_id {
            Some(user_id) => Recipient::is_awaited(tx, user_id).await?,
            None => false,
        };
        let envelope = tx.envelope().ok_or_else(|| HandlerError::reject("an event arrived without its envelope"))?;
        let id = Intent::id_for(envelope.message_id, self.template);
        let (token, expires_at) = self.link.unzip();
        let intent = Intent {
            id,
            user_id: self.user_id,
            template: self.template,
            content: token.map(|token| Content { token }),
            details: self.details,
            waits_for_address,
            expires_at,
            occurred_at: envelope.occurred_at,
            message_id: composer.message_id(id),
            trace_id: envelope.trace_id().map(str::to_owned),
        };
        if intent.insert(tx).await? {
            if !waits_for_address {
                SendEmail::enqueue(tx, id, self.template);
            }
            metrics::became(self.template, State::Pending);
        }
        Ok(())
    }
}

fn user_id(text: &str) -> Result<Uuid, HandlerError> {
    text.parse().map_err(|error: uuid::Error| HandlerError::reject(format!("`user_id` is not a UUID: {error}")))
}
