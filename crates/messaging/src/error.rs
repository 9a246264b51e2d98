//! What can go wrong, by what the caller can do about it.

use std::{error::Error as StdError, fmt};

use sqlx::postgres::PgSeverity;

/// Why a long-running part stopped, or a request to this crate failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused a statement or is not reachable.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The migrations of this crate do not apply.
    #[error("migrations of the schema `messaging`: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The broker is not reachable or refused.
    #[error("broker: {0}")]
    Broker(#[from] lapin::Error),
    /// The broker's URL cannot be one.
    #[error(transparent)]
    BrokerUrl(#[from] crate::BrokerUrlError),
    /// A whole window of publishes has an unknown fate; publishing it again with the same ids is safe.
    #[error("the broker did not confirm in time: {0}")]
    Unconfirmed(String),
    /// The broker's topology is not what the handlers need.
    #[error("the topology differs from what the handlers need: {0}")]
    Topology(String),
    /// The broker's management API is not reachable or refused; what it would have said about the topology is not known.
    #[error("the broker's management API: {0}")]
    Management(String),
    /// A part was put together wrongly.
    #[error("{0}")]
    Configuration(String),
}

impl Error {
    /// For the attribute `error.type`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Database(_) => "database",
            Self::Migration(_) => "migration",
            Self::Broker(_) => "broker",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Topology(_) => "topology",
            Self::Management(_) => "management",
            Self::BrokerUrl(_) | Self::Configuration(_) => "configuration",
        }
    }
}

/// Why a handler did not handle, by what should happen to the message.
///
/// `?` on any error makes [`HandlerError::Retry`]: later is the right default for whatever was not foreseen.
pub enum HandlerError {
    /// Try again later, with backoff, up to the consumer's limit; then the message is dead.
    Retry(Box<dyn StdError + Send + Sync>),
    /// Never: the message cannot be right. It becomes a dead letter at once.
    Reject(Box<dyn StdError + Send + Sync>),
    /// A dependency is down, and it is not the message's fault: the consumer pauses and no attempt is spent.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

impl HandlerError {
    /// See [`HandlerError::Reject`].
    pub fn reject(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Reject(error.into())
    }

    /// See [`HandlerError::Retry`].
    pub fn retry(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }

    /// See [`HandlerError::Unavailable`].
    pub fn unavailable(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::Retry(Box::new(error))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, error) = match self {
            Self::Retry(error) => ("retry", error),
            Self::Reject(error) => ("reject", error),
            Self::Unavailable(error) => ("unavailable", error),
        };
        write!(f, "{kind}: {}", chain(error.as_ref()))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    // No text of Postgres can hold it, and what failed must be stored.
    text.replace('\0', "\u{fffd}")
}

/// What a failed attempt means, once Postgres' own reasons are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Deadlock or serialization failure: the same again, at once.
    Again,
    /// Park and try later.
    Retry,
    /// Dead letter.
    Reject,
    /// Pause; nobody's fault.
    Unavailable,
}

impl HandlerError {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Reject(_) => Verdict::Reject,
            Self::Unavailable(_) => Verdict::Unavailable,
            Self::Retry(error) => database_cause(error.as_ref()).map_or_else(
                || if error.is::<crate::PublishError>() { Verdict::Reject } else { Verdict::Retry },
                database_verdict,
            ),
        }
    }

    pub(crate) fn message(&self) -> String {
        let (Self::Retry(error) | Self::Reject(error) | Self::Unavailable(error)) = self;
        chain(error.as_ref())
    }
}

fn database_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a sqlx::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(database) = error.downcast_ref::<sqlx::Error>() {
            return Some(database);
        }
        cause = error.source();
    }
    None
}

/// Whether the session ended with it.
fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
    let error = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
    error.is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Sorts a database error by SQLSTATE (PostgreSQL documentation, appendix A).
pub(crate) fn database_verdict(error: &sqlx::Error) -> Verdict {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => Verdict::Unavailable,
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // A database that takes no connections now: it is being moved, or copied. Within a session the same code is a mistake.
            Some("55000") if is_fatal(&**database) => Verdict::Unavailable,
            // serialization_failure, deadlock_detected
            Some("40001" | "40P01") => Verdict::Again,
            // A statement that took too long, or too much room for temporary files: that is about this message, and not about the database.
            Some("57014" | "53400") => Verdict::Retry,
            // inbox: no partition for this id, so the message is outside the window of the inbox
            Some("23514") if database.table() == Some("inbox") => Verdict::Reject,
            Some(code) => match &code[..2] {
                // connection exception, insufficient resources, operator intervention, system error; read-only after a failover
                "08" | "53" | "57" | "58" => Verdict::Unavailable,
                _ if code == "25006" => Verdict::Unavailable,
                _ => Verdict::Retry,
            },
            None => Verdict::Retry,
        },
        _ => Verdict::Retry,
    }
}
