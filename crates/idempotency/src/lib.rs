#![doc = include_str!("../README.md")]

mod answer;
mod key;

use std::time::Duration;

use failpoints::{hit, without};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgPool, migrate::Migrator, types::Json};
use uuid::Uuid;
use web::Problem;

pub use answer::Answer;
pub use key::Key;

/// How long an answer is kept.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Answers that one statement forgets at most, so that none runs for long.
const BATCH: i64 = 10_000;

/// What was asked, in 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Whether a request is new.
#[derive(Debug)]
pub enum Begun {
    /// It is: do it, and [store](Pending::store) the answer in the same transaction.
    New(Pending),
    /// It was done before. This was the answer.
    Again(Answer),
}

/// A request that is being worked on.
#[derive(Debug)]
#[must_use = "without its answer stored, the request would be done again"]
pub struct Pending {
    owner: Uuid,
    key: String,
    fingerprint: Fingerprint,
}

/// Why a request cannot be done under this key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another request with the key is being worked on.
    #[error("a request with this key is being worked on")]
    InFlight,
    /// The key was used for another request.
    #[error("the key was used for another request")]
    OtherRequest,
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl Fingerprint {
    /// Of the route and the decoded body: the same members in another order or spacing are the same request.
    pub fn of(request: &impl Serialize) -> Self {
        // Into a vector only a type that refuses to be serialized can fail; such a request equals no other.
        let json = serde_json::to_vec(request).unwrap_or_else(|_| Uuid::new_v4().into_bytes().to_vec());
        Self(Sha256::digest(json).into())
    }
}

/// The schema `idempotency`.
#[must_use]
pub fn migrations() -> Migrator {
    sqlx::migrate!()
}

/// Looks whether the request was done before. Until the transaction ends, other requests with the key are told to wait.
///
/// # Errors
/// See [`Error`].
pub async fn begin(tx: &mut PgConnection, owner: Uuid, key: &Key, fingerprint: &Fingerprint) -> Result<Begun, Error> {
    let name = format!("idempotency {owner} {}", key.as_str());
    let free: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(name)
        .fetch_one(&mut *tx)
        .await?;
    if !free {
        return Err(Error::InFlight);
    }
    hit("idempotency.after_lock").await.map_err(sqlx::Error::Io)?;
    if without("idempotency-keys") {
        let forget = sqlx::query("delete from idempotency.answers where owner = $1 and key = $2");
        forget.bind(owner).bind(key.as_str()).execute(&mut *tx).await?;
    }
    let known: Option<Stored> = sqlx::query_as(
        "select fingerprint, status, headers, body from idempotency.answers where owner = $1 and key = $2",
    )
    .bind(owner)
    .bind(key.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    match known {
        None => Ok(Begun::New(Pending { owner, key: key.as_str().to_owned(), fingerprint: fingerprint.clone() })),
        Some(known) if known.fingerprint != fingerprint.0 => Err(Error::OtherRequest),
        Some(known) => Ok(Begun::Again(Answer::stored(known.status, known.headers.0, known.body))),
    }
}

/// A row of `idempotency.answers`.
#[derive(sqlx::FromRow)]
struct Stored {
    fingerprint: Vec<u8>,
    status: i32,
    headers: Json<Vec<(String, String)>>,
    body: Vec<u8>,
}

impl Pending {
    /// Stores the answer; it counts when the transaction commits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn store(self, tx: &mut PgConnection, answer: &Answer) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into idempotency.answers (owner, key, fingerprint, status, headers, body)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.owner)
        .bind(self.key)
        .bind(self.fingerprint.0.as_slice())
        .bind(i32::from(answer.status().as_u16()))
        .bind(Json(answer.headers()))
        .bind(answer.body())
        .execute(tx)
        .await?;
        hit("idempotency.after_answer").await?;
        Ok(())
    }
}

/// Forgets answers that are older than [`RETENTION`].
///
/// # Errors
/// When the database fails.
pub async fn forget_expired(pool: &PgPool) -> Result<(), sqlx::Error> {
    let batch = async || {
        sqlx::query(
            "delete from idempotency.answers where (owner, key) in
                (select owner, key from idempotency.answers
                 where answered_at < now() - make_interval(secs => $1) limit $2)",
        )
        .bind(RETENTION.as_secs_f64())
        .bind(BATCH)
        .execute(pool)
        .await
    };
    while batch().await?.rows_affected() > 0 {}
    Ok(())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::InFlight => Self::conflict(
                "A request with this Idempotency-Key is being worked on. Repeat yours in a second to get its answer.",
            )
            .retry_after(Duration::from_secs(1)),
            Error::OtherRequest => Self::unprocessable(
                "This Idempotency-Key was used for another request. Use a new key for a new request, and the same body to \
                 repeat one.",
            ),
            Error::Database(error) => Self::internal(&error),
        }
    }
}
