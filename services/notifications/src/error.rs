//! What the API can answer instead of a result, and how it is said (RFC 9457).

use std::time::Duration;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use messaging::pool::is_unreachable;
use thiserror::Error;
use web::Problem;

use crate::notification::NotResendable;

/// When a database that does not answer is worth another try.
const SOON: Duration = Duration::from_secs(2);

/// Why a request has no result.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// There is none that the asker may see.
    #[error("no such notification")]
    NotFound,
    /// It cannot be sent again.
    #[error("not resendable: {0:?}")]
    NotResendable(NotResendable),
    /// Our database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// Something in the request is not valid.
    #[error(transparent)]
    Request(#[from] Problem),
}

impl Error {
    fn problem(&self) -> Problem {
        match self {
            Self::NotFound => Problem::not_found("There is no notification with this id, or it is not yours."),
            Self::NotResendable(why) => {
                Problem::new(StatusCode::CONFLICT, "not-resendable", "It cannot be sent again").detail(advice(*why))
            }
            Self::Database(error) if is_unreachable(error) => {
                tracing::warn!(%error, "the database does not answer");
                Problem::unavailable(SOON, "The database does not answer; try again in a moment.")
            }
            Self::Database(error) => Problem::internal(error),
            Self::Request(problem) => problem.clone(),
        }
    }
}

fn advice(why: NotResendable) -> &'static str {
    match why {
        NotResendable::Pending => "It is still on its way. Wait until it is sent, bounced or failed.",
        NotResendable::LinkGone => {
            "Its link ran out, or was erased when it was sent. Have the user ask for a new one: POST /email-verifications \
             or POST /password-resets at the users service."
        }
        NotResendable::Over => {
            "It expired or was cancelled, so it is no longer true. If the user still needs it, have them ask for a new \
             one at the users service."
        }
        NotResendable::NoAddress => "The account was deleted, so there is no address to send it to.",
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.problem().status()
    }

    fn error_response(&self) -> HttpResponse {
        self.problem().error_response()
    }
}
