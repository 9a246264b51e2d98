//! What the API can answer instead of a result, and how it is said (RFC 9457). It logs only what is our fault, once.

use std::time::Duration;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use messaging::pool::is_unreachable;
use web::Problem;

/// Waiting this long is enough for a database that restarts.
const SOON: Duration = Duration::from_secs(2);

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The question takes the database too long.
    #[error("the database was stopped")]
    TooMuch,
    /// Something about the request, said by whoever noticed.
    #[error(transparent)]
    Request(#[from] Problem),
    /// Our database.
    #[error("the database failed")]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // query_canceled: the statement's time was over.
        match error.as_database_error().and_then(|error| error.code()).as_deref() {
            Some("57014") => Self::TooMuch,
            _ => Self::Database(error),
        }
    }
}

impl Error {
    fn problem(&self) -> Problem {
        match self {
            Self::TooMuch => Problem::unavailable(
                SOON,
                "There are too many lines to look at; ask for a shorter time, or one service.",
            ),
            Self::Request(problem) => problem.clone(),
            Self::Database(error) if is_unreachable(error) => {
                tracing::warn!(%error, "the database does not answer");
                Problem::unavailable(SOON, "The database does not answer; try again in a moment.")
            }
            Self::Database(error) => Problem::internal(error),
        }
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
