//! What the API can answer instead of a result, and how it is said (RFC 9457).

use std::time::Duration;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use messaging::pool::is_unreachable;
use thiserror::Error;
use web::Problem;

use crate::{settle::SettleError, state::Refusal};

/// When to come back to a database that does not answer.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

/// Why a request has no result.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// There is none that the asker may see.
    #[error("no such payment")]
    NotFound,
    /// There is no money that could go back.
    #[error("nothing to refund: {0:?}")]
    NothingToRefund(Refusal),
    /// Our database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// Something of ours is wrong.
    #[error(transparent)]
    Internal(SettleError),
    /// Something in the request is not valid.
    #[error(transparent)]
    Request(#[from] Problem),
}

impl Error {
    fn problem(&self) -> Problem {
        match self {
            Self::NotFound => Problem::not_found(
                "There is no payment for this order, or the order is not yours. A payment is there when the goods of the order are reserved.",
            ),
            Self::NothingToRefund(refusal) => {
                Problem::new(StatusCode::CONFLICT, "nothing-to-refund", "There is nothing to refund")
                    .detail(advice(*refusal))
            }
            Self::Database(error) if is_unreachable(error) => {
                tracing::warn!(error = error as &dyn std::error::Error, "the database does not answer");
                Problem::unavailable(DATABASE_RETRY, "The database does not answer; try again in a moment.")
            }
            Self::Database(error) => Problem::internal(error),
            Self::Internal(error) => Problem::internal(error),
            Self::Request(problem) => problem.clone(),
        }
    }
}

fn advice(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotDecided => {
            "The provider has not decided about this payment yet. Wait until it is authorized, or have the order cancelled: then whatever was taken goes back."
        }
        Refusal::GoesBack => {
            "This payment is being cancelled: whatever was taken goes back by itself. Look again in a moment."
        }
        Refusal::NothingTaken => "Nothing was taken for this order, so there is nothing to give back.",
    }
}

impl From<SettleError> for Error {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Database(error) => Self::Database(error),
            error @ SettleError::Publish(_) => Self::Internal(error),
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NothingToRefund(_) => StatusCode::CONFLICT,
            Self::Database(error) if is_unreachable(error) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Request(problem) => problem.status(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.problem().error_response()
    }
}

/// Logs what is a failure of ours, so it is done once per answer.
impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        error.problem()
    }
}
