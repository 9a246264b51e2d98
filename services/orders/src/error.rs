//! What the API can answer instead of a result, and how it is said (RFC 9457).

use std::time::Duration;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use messaging::pool::is_unreachable;
use thiserror::Error;
use web::Problem;

use crate::{
    placing::Wrong,
    progress::NotMoved,
    saga::{Reason, State},
};

/// When to come back after an outage that is nobody's fault.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a request has no result.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// There is none that the asker may see.
    #[error("no such order")]
    NotFound,
    /// The address of the account is not proven.
    #[error("not verified")]
    Unverified,
    /// The account is gone.
    #[error("the account was deleted")]
    AccountDeleted,
    /// This cannot be ordered.
    #[error("not valid: {0:?}")]
    Invalid(Vec<Wrong>),
    /// The order is final, so it cannot be cancelled.
    #[error("final: {0:?}")]
    Final(State, Option<Reason>),
    /// Every stream of this process is taken.
    #[error("too many streams")]
    TooManyStreams,
    /// The caller has as many streams open as one may.
    #[error("the caller has too many streams open")]
    TooManyOwnStreams,
    /// The caller has as many orders under way as one may.
    #[error("the caller has too many orders under way")]
    TooManyOpenOrders,
    /// The caller has placed as many orders as one may within an hour; the next one is taken after this time.
    #[error("the caller has placed too many orders")]
    TooManyOrders(Duration),
    /// Our database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// An event could not be published.
    #[error("an event cannot be published")]
    Publish(#[from] messaging::PublishError),
    /// Something in the request is not valid.
    #[error(transparent)]
    Request(#[from] Problem),
}

impl From<NotMoved> for Error {
    fn from(error: NotMoved) -> Self {
        match error {
            NotMoved::Database(error) => Self::Database(error),
            NotMoved::Publish(error) => Self::Publish(error),
        }
    }
}

impl From<idempotency::Error> for Error {
    fn from(error: idempotency::Error) -> Self {
        match error {
            idempotency::Error::Database(error) => Self::Database(error),
            error => Self::Request(error.into()),
        }
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        match error {
            Error::NotFound => Self::not_found("There is no order with this id, or it is not yours."),
            Error::Unverified => Self::new(StatusCode::FORBIDDEN, "unverified", "The address of the account is not verified")
                .detail("Verify your e-mail address before you order: follow the link in the mail that came when you registered, or ask for another with POST /email-verifications of the users service."),
            Error::AccountDeleted => Self::forbidden("The account was deleted, so nothing can be ordered with it any more."),
            Error::Invalid(wrong) => {
                let problem = Self::unprocessable("This cannot be ordered; see errors for what is wrong with each member.");
                wrong.iter().fold(problem, |problem, wrong| problem.field(&wrong.pointer, wrong.detail.clone()))
            }
            Error::Final(state, reason) => {
                Self::new(StatusCode::CONFLICT, "final", "The order cannot be cancelled any more").detail(advice(*state, *reason))
            }
            Error::TooManyStreams => {
                Self::unavailable(RETRY_AFTER, "Too many streams are open; come back in a moment, or ask for the timeline now and then.")
            }
            Error::TooManyOwnStreams => {
                Self::too_many_requests(RETRY_AFTER, "You have too many streams open on this process; close one, or ask for the timeline now and then.")
            }
            Error::TooManyOpenOrders => {
                Self::too_many_requests(RETRY_AFTER, "You have too many orders under way; wait until one is confirmed, or cancel one.")
            }
            Error::TooManyOrders(pause) => {
                let pause = (*pause).max(Duration::from_secs(1));
                Self::too_many_requests(pause, "You have placed too many orders within an hour; nothing was ordered. Repeat the request after the time in Retry-After.")
            }
            Error::Database(error) if is_unreachable(error) => {
                tracing::warn!(%error, "the database does not answer");
                Self::unavailable(RETRY_AFTER, "The database does not answer at the moment; repeat the request in a few seconds.")
            }
            Error::Database(error) => Self::internal(error),
            Error::Publish(error) => Self::internal(error),
            Error::Request(problem) => problem.clone(),
        }
    }
}

/// What to do about an order that is final.
fn advice(state: State, reason: Option<Reason>) -> String {
    match reason {
        Some(reason) => format!("It is cancelled already ({}); there is nothing left to do.", reason.name()),
        None => format!("It is {}: the goods are yours. Ask the shop to take them back.", state.name()),
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Unverified | Self::AccountDeleted => StatusCode::FORBIDDEN,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Final(..) => StatusCode::CONFLICT,
            Self::TooManyStreams => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyOwnStreams | Self::TooManyOpenOrders | Self::TooManyOrders(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Database(error) if is_unreachable(error) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Publish(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Request(problem) => problem.status(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        Problem::from(self).error_response()
    }
}
