//! Everything that can go wrong with a request, and what the caller is told. It logs only what is our fault, once.

use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use messaging::{PublishError, pool::is_unreachable};
use web::Problem;

use crate::{one_time_token::Link, password::HashError, signing_key::KeyError};

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields that are well-formed but cannot be used, each with a sentence for whoever filled it in.
    #[error("fields are not valid")]
    Invalid(Invalid),
    /// Login: the address is unknown or the password is wrong; which of the two is nobody's business.
    #[error("wrong credentials")]
    WrongCredentials,
    /// Logged in, but the password that a change needs again is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// A refresh token that belongs to no living session.
    #[error("no such session any more")]
    SessionEnded,
    /// Only for operators.
    #[error("not an operator")]
    Forbidden,
    /// Too many failed attempts; the next one is looked at after this time.
    #[error("too many failed attempts")]
    Throttled(Duration),
    /// Too many mails were asked for from one network; the next request is looked at after this time.
    #[error("too many mails")]
    TooManyMails(Duration),
    /// A session was renewed too often; the same token is exchanged after this time.
    #[error("too many renewals")]
    TooManyRenewals(Duration),
    /// More passwords to hash than there are cores for; later.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A mailed link that does nothing.
    #[error("the link does not work")]
    DeadLink(Link),
    /// A change without `If-Match`, or to a version that is no longer the current one.
    #[error(transparent)]
    Precondition(#[from] Problem),
    /// There is no such account.
    #[error("no such user")]
    NoSuchUser,
    /// There is no such session, or it is somebody else's.
    #[error("no such session")]
    NoSuchSession,
    /// Nobody would remain to administer.
    #[error("the last operator")]
    LastOperator,
    /// The database.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// An event that cannot be published: a mistake of ours.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No access token could be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A page that could not be written.
    #[error("page: {0}")]
    Page(#[from] askama::Error),
}

/// The fields of a request that cannot be used. Collects them, so that everything is said at once.
#[derive(Debug, Default)]
pub struct Invalid(Vec<(&'static str, &'static str)>);

impl Invalid {
    /// One field (as a JSON pointer) and what is wrong with it.
    pub fn field(pointer: &'static str, message: &'static str) -> Error {
        Error::Invalid(Self(vec![(pointer, message)]))
    }

    /// Takes the value, or notes why there is none.
    pub fn check<T>(&mut self, pointer: &'static str, value: Result<T, &'static str>) -> Option<T> {
        value.map_err(|message| self.0.push((pointer, message))).ok()
    }

    /// Whether all fields could be used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the collection.
    pub fn into_result(self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(self.into()) }
    }

    /// The sentences, for a page.
    pub fn messages(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(_, message)| *message)
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Waiting this long is enough for a queue of passwords, or for a database that restarts.
const SOON: Duration = Duration::from_secs(2);

const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"postrider\"");

impl Error {
    /// What the caller is told; nothing if it is a failure of ours.
    fn explained(&self) -> Option<Problem> {
        Some(match self {
            Self::Invalid(Invalid(fields)) => {
                let all =
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields", "Some fields cannot be used")
                        .detail("Correct the fields that are listed and send the request again.");
                fields.iter().fold(all, |all, (pointer, message)| all.field(pointer, *message))
            }
            Self::Throttled(pause) => too_many(
                *pause,
                "too-many-attempts",
                "Too many failed attempts",
                "Wait for the time in Retry-After, or ask for a new password with POST /password-resets.",
            ),
            Self::TooManyMails(pause) => too_many(
                *pause,
                "too-many-mails",
                "Too many mails were asked for from this network",
                "Nothing was done; send the request again after the time in Retry-After.",
            ),
            Self::TooManyRenewals(pause) => too_many(
                *pause,
                "too-many-renewals",
                "The session was renewed too often",
                "The refresh token is not used up; send it again after the time in Retry-After. An access token works for ten minutes.",
            ),
            Self::Precondition(problem) => problem.clone(),
            Self::DeadLink(link) => dead_link(*link),
            Self::Hash(HashError::Busy) => {
                Problem::unavailable(SOON, "Too many logins and registrations at once; try again in a moment.")
            }
            Self::Database(error) if is_unreachable(error) => {
                Problem::unavailable(SOON, "The database does not answer; try again in a moment.")
            }
            Self::WrongCredentials | Self::SessionEnded => self.refusal()?.header(header::WWW_AUTHENTICATE, BEARER),
            _ => return self.refusal(),
        })
    }

    /// The answers that are the same every time.
    fn refusal(&self) -> Option<Problem> {
        let (status, slug, title, detail) = match self {
            Self::WrongCredentials => (
                StatusCode::UNAUTHORIZED,
                "wrong-credentials",
                "The address or the password is wrong",
                "Check both, or ask for a new password with POST /password-resets.",
            ),
            Self::WrongPassword => (
                StatusCode::FORBIDDEN,
                "wrong-password",
                "The password is wrong",
                "Send the account's current password with this request.",
            ),
            Self::SessionEnded => (
                StatusCode::UNAUTHORIZED,
                "session-ended",
                "The session has ended",
                "Log in again with POST /sessions. A refresh token works once; using an old one ends its session.",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "operators-only",
                "Only operators may do this",
                "Log in with an account that has the role operator.",
            ),
            Self::NoSuchUser | Self::NoSuchSession | Self::LastOperator => return self.missing(),
            _ => return None,
        };
        Some(Problem::new(status, slug, title).detail(detail))
    }

    fn missing(&self) -> Option<Problem> {
        let (status, slug, title, detail) = match self {
            Self::NoSuchUser => (
                StatusCode::NOT_FOUND,
                "no-such-user",
                "There is no such user",
                "Check the id; GET /users lists the accounts.",
            ),
            Self::NoSuchSession => (
                StatusCode::NOT_FOUND,
                "no-such-session",
                "There is no such session",
                "It may have ended already. Only sessions of one's own can be ended.",
            ),
            Self::LastOperator => (
                StatusCode::CONFLICT,
                "last-operator",
                "Nobody would remain to administer",
                "Give another account the role operator first.",
            ),
            _ => return None,
        };
        Some(Problem::new(status, slug, title).detail(detail))
    }
}

fn too_many(pause: Duration, slug: &'static str, title: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, slug, title)
        .detail(detail)
        .retry_after(pause.max(Duration::from_secs(1)))
}

fn dead_link(link: Link) -> Problem {
    let gone = |slug: &'static str, title: &'static str, detail: &str| {
        Problem::new(StatusCode::GONE, slug, title).detail(detail)
    };
    match link {
        Link::Used => gone(
            "link-used",
            "This link was used already",
            "A link works once. If that was not you, ask for a new password now.",
        ),
        Link::Replaced => gone("link-replaced", "A newer link was sent", "Use the link in the latest mail."),
        Link::Outdated => gone(
            "link-outdated",
            "The password was changed since",
            "Log in with the password as it is now, or ask for a new link with POST /password-resets.",
        ),
        Link::Expired => {
            let detail = "Ask for a new one with POST /email-verifications or POST /password-resets.";
            gone("link-expired", "This link has expired", detail)
        }
        Link::Unknown | Link::Open(_) => {
            let detail = "Check that the whole link was copied, or ask for a new one with POST /email-verifications or POST /password-resets.";
            Problem::new(StatusCode::NOT_FOUND, "link-unknown", "There is no such link").detail(detail)
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.explained().map_or(StatusCode::INTERNAL_SERVER_ERROR, |problem| problem.status())
    }

    fn error_response(&self) -> HttpResponse {
        Problem::from(self).error_response()
    }
}

/// Logs what is a failure of ours, so it is done once per answer.
impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        if let Error::Database(cause) = error
            && is_unreachable(cause)
        {
            tracing::warn!(error = cause as &dyn std::error::Error, "the database does not answer");
        }
        error.explained().unwrap_or_else(|| Problem::internal(error))
    }
}
