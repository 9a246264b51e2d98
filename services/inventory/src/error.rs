//! What the API can answer instead of a result, and how it is said (RFC 9457). It logs only what is our fault, once.

use std::time::Duration;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use messaging::{PublishError, pool::is_unreachable};
use web::Problem;

/// Waiting this long is enough for a database that restarts.
const SOON: Duration = Duration::from_secs(2);

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no product with this SKU.
    #[error("no such product")]
    NoProduct,
    /// There is no reservation that the asker may see.
    #[error("no such reservation")]
    NoReservation,
    /// The product should be made, but is there.
    #[error("the product exists")]
    Exists,
    /// A product's currency never changes.
    #[error("the currency of a product is fixed")]
    CurrencyFixed {
        /// The one that it has.
        currency: String,
    },
    /// There would be more pieces than can be counted.
    #[error("too many pieces")]
    TooMuch,
    /// Members of the body that cannot be used: JSON pointer and sentence.
    #[error("fields are not valid")]
    Invalid(Vec<(String, &'static str)>),
    /// Something about the request, said by whoever noticed.
    #[error(transparent)]
    Request(#[from] Problem),
    /// The idempotency key is in use, or was used for something else.
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    /// Our database.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// An event that cannot be published: a mistake of ours.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NoProduct => Self::not_found("There is no product with this SKU; GET /products lists them."),
            Error::NoReservation => {
                Self::not_found("Nothing is known of an order with this id, or it is somebody else's.")
            }
            Error::Exists => Self::new(StatusCode::PRECONDITION_FAILED, "already-exists", "There is such a product")
                .detail("Leave If-None-Match out to change it, or choose another SKU."),
            Error::CurrencyFixed { currency } => {
                Self::new(StatusCode::CONFLICT, "currency-fixed", "A product's currency cannot change")
                    .detail(format!(
                        "Its price is in {currency}, and orders may be on their way that count on it. Give a price in \
                         {currency}, or make a product with another SKU."
                    ))
                    .field("/price/currency", format!("must be {currency}"))
            }
            Error::TooMuch => Self::unprocessable("There would be more pieces than can be counted; restock fewer.")
                .field("/quantity", "is more than there is room for"),
            Error::Invalid(fields) => {
                let all = Self::unprocessable("Correct the fields that are listed and send the request again.");
                fields.into_iter().fold(all, |all, (pointer, message)| all.field(pointer, message))
            }
            Error::Request(problem) => problem,
            Error::Idempotency(idempotency::Error::Database(error)) | Error::Database(error) => database(&error),
            Error::Idempotency(error) => error.into(),
            Error::Publish(error) => Self::internal(&error),
        }
    }
}

/// A database that is away comes back: that is worth a repetition, and nobody's mistake.
fn database(error: &sqlx::Error) -> Problem {
    if is_unreachable(error) {
        tracing::warn!(%error, "the database does not answer");
        return Problem::unavailable(SOON, "The database does not answer; try again in a moment.");
    }
    Problem::internal(error)
}

/// What a handler returns: an [`Error`] that is already told.
pub(crate) type Answered = Result<HttpResponse, Told>;

/// A problem, made from whatever went wrong at the moment when it did.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Told(Problem);

impl<E: Into<Error>> From<E> for Told {
    fn from(error: E) -> Self {
        Self(error.into().into())
    }
}

impl ResponseError for Told {
    fn status_code(&self) -> StatusCode {
        self.0.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.0.error_response()
    }
}
