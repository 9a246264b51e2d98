//! What this service needs of whoever moves the money. Nothing here knows of orders, states or events.
//!
//! The key makes every call safe to repeat, and [`Provider::refund`] makes it dead: a charge under that key that is still on its way is refused. So
//! the outcome of a charge is never unknown for good, however the connection, this process or the provider fails: whoever no longer waits
//! for a charge asks for its refund, and the answer tells what had happened.

mod simulated;

use std::{error::Error as StdError, time::Duration};

use money::Money;
use tracing::{Span, field::Empty, info_span};
use uuid::Uuid;

use crate::state::DeclineReason;

pub use simulated::{Simulated, SimulatedOptions};

/// Moves money. Each call has its own deadline from the worker that makes it.
pub trait Provider: Send + Sync + 'static {
    /// Takes the money. The same key again is the same charge, and gets the same answer.
    ///
    /// # Errors
    /// See [`ProviderError`]: only [`ProviderError::Declined`] says that the money will never be taken.
    fn charge(
        &self,
        key: Uuid,
        amount: &Money,
        method: &str,
    ) -> impl Future<Output = Result<Charge, ProviderError>> + Send;

    /// Gives back whatever was taken under this key, and takes nothing under it any more. Again, it gives the same answer.
    ///
    /// # Errors
    /// [`ProviderError::Transient`] and [`ProviderError::Unavailable`].
    fn refund(&self, key: Uuid) -> impl Future<Output = Result<Refund, ProviderError>> + Send;
}

/// The money is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge;

/// Nothing is held under the key, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// What had been taken and went back; `None` if nothing had been taken.
    pub returned: Option<Money>,
}

/// Why there is no [`Charge`], or no [`Refund`].
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The money will never be taken under this key.
    #[error("declined: {0:?}")]
    Declined(DeclineReason),
    /// The key is dead: it was refunded, or voided before anything was taken.
    #[error("the payment was voided")]
    Voided,
    /// The provider has taken the request and needs time. Ask again then; asking earlier is harmless.
    #[error("being processed for another {0:?}")]
    Processing(Duration),
    /// This call failed; another one may not.
    #[error("{0}")]
    Transient(String),
    /// The provider is not there, for nobody.
    #[error("the provider is not available")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The request contradicts an earlier one under the same key. A mistake of ours that no repetition mends.
    #[error("the key was used for another amount or method")]
    Contradiction,
}

impl ProviderError {
    /// For metrics and traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Declined(_) => "declined",
            Self::Voided => "voided",
            Self::Processing(_) => "processing",
            Self::Transient(_) => "transient",
            Self::Unavailable(_) => "unavailable",
            Self::Contradiction => "contradiction",
        }
    }
}

/// The span of a call: which payment it is for, and neither amount nor method.
pub(crate) fn span(call: &'static str, payment: Uuid) -> Span {
    info_span!(
        "provider",
        otel.name = format!("provider {call}"),
        otel.kind = "client",
        otel.status_code = Empty,
        error.type = Empty,
        peer.service = "payment provider",
        postrider.payment = %payment,
        postrider.outcome = Empty,
    )
}

/// Records how a call ended. A provider that says no, or not yet, has done what it is for.
pub(crate) fn answered<T>(span: &Span, answer: &Result<T, ProviderError>) {
    let outcome = answer.as_ref().map_or_else(ProviderError::name, |_| "ok");
    span.record("postrider.outcome", outcome);
    match answer {
        Ok(_) | Err(ProviderError::Declined(_) | ProviderError::Voided | ProviderError::Processing(_)) => {}
        Err(ProviderError::Transient(_) | ProviderError::Unavailable(_) | ProviderError::Contradiction) => {
            span.record("error.type", outcome);
            span.record("otel.status_code", "ERROR");
        }
    }
}
