//! What a fact does to a payment: its new state, what is announced and what is to be done, in the one transaction that makes the fact known
//! here. The decision is `state::transition`'s.

use events::payments::v1::{self as wire, PaymentAuthorized, PaymentDeclined, PaymentRefunded};
use messaging::{OutboxTransaction, PublishError};

use crate::{
    give_back, metrics,
    payment::Payment,
    state::{DeclineReason, Effect, Fact, Refusal, Transition, transition},
};

/// Why a fact was not written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    /// Our database failed. Not transparent: messaging looks for the cause to tell a deadlock from the rest.
    #[error("what became of a payment could not be written down")]
    Database(#[from] sqlx::Error),
    /// An event is too large, which these are not.
    #[error("what became of a payment could not be announced")]
    Publish(#[from] PublishError),
}

/// Applies the fact. The payment must be locked. `Ok(Err(…))` says why it cannot be done; only a wish can be refused, a fact is one.
pub(crate) async fn settle(
    payment: &mut Payment,
    fact: Fact,
    tx: &mut OutboxTransaction,
) -> Result<Result<(), Refusal>, SettleError> {
    let (next, effects) = match transition(payment.state, fact) {
        Transition::To(next, effects) => (next, effects),
        Transition::Stays => return Ok(Ok(())),
        Transition::Refused(refusal) => return Ok(Err(refusal)),
    };
    payment.state = next;
    match fact {
        Fact::Declined(reason) => payment.decline_reason = Some(reason),
        Fact::GaveUp => payment.decline_reason = Some(DeclineReason::GivenUp),
        _ => {}
    }
    payment.save(tx).await?;
    for effect in effects {
        match effect {
            Effect::AnnounceAuthorized => tx.publish(&authorized(payment)).map(drop)?,
            Effect::AnnounceDeclined => tx.publish(&declined(payment)).map(drop)?,
            Effect::AnnounceRefunded => tx.publish(&refunded(payment)).map(drop)?,
            Effect::GiveBack => tx.enqueue(give_back::TASK, payment.id),
        }
    }
    metrics::became(next);
    Ok(Ok(()))
}

fn authorized(payment: &Payment) -> PaymentAuthorized {
    PaymentAuthorized {
        order_id: payment.order_id.to_string(),
        payment_id: payment.id.to_string(),
        amount: Some((&payment.amount()).into()),
    }
}

fn declined(payment: &Payment) -> PaymentDeclined {
    let reason = match payment.decline_reason {
        Some(DeclineReason::CardDeclined) => wire::DeclineReason::CardDeclined,
        Some(DeclineReason::InsufficientFunds) => wire::DeclineReason::InsufficientFunds,
        Some(DeclineReason::UnknownMethod) => wire::DeclineReason::UnknownMethod,
        Some(DeclineReason::GivenUp) => wire::DeclineReason::GivenUp,
        None => wire::DeclineReason::Unspecified,
    };
    PaymentDeclined {
        order_id: payment.order_id.to_string(),
        payment_id: payment.id.to_string(),
        reason: reason.into(),
    }
}

fn refunded(payment: &Payment) -> PaymentRefunded {
    PaymentRefunded {
        order_id: payment.order_id.to_string(),
        payment_id: payment.id.to_string(),
        user_id: payment.user_id.to_string(),
        amount: Some((&payment.amount()).into()),
    }
}
