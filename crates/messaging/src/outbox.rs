//! The outbox: the only way to publish. Events are rows of the business transaction until the broker has confirmed them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use sqlx::{PgPool, SqlSafeStr as _, Transaction};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::{
    Error, OutboxTransaction,
    health::{Check, Health},
    pool::{self, ANSWER_DEADLINE},
    retry::RECONNECT,
};

/// Begins transactions that can publish. Cheap to clone; clones share the wake-up of the relay.
#[derive(Clone, Debug)]
pub struct Outbox {
    pub(crate) pool: PgPool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) answer_deadline: Duration,
}

/// What the clones of an outbox share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) producer: &'static str,
    pub(crate) retention: Retention,
    pub(crate) health: Health,
    pub(crate) wake: Wake,
    /// Rung when a transaction that enqueued a job commits.
    pub(crate) jobs: Notify,
    /// As the last [`Outbox::measure`] saw it.
    backlog: Mutex<Backlog>,
}

/// What waits for the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Age of the oldest event that nobody has heard.
    pub oldest: Duration,
    /// Events that nobody has heard, counted up to [`Backlog::COUNTED`].
    pub pending: u32,
}

impl Backlog {
    /// No more than that is counted: a long outage must not make it the slowest query.
    pub const COUNTED: u32 = 10_000;
}

/// How long things are kept. Whole days for what is partitioned.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// What was published; 0 keeps no journal, and then nothing can be replayed.
    pub journal_days: u16,
    /// The content of sensitive events in the journal.
    pub sensitive: Duration,
    /// The ids of handled messages. A message older than this is refused, so it must exceed every delay a message can meet.
    pub inbox_days: u16,
    /// The sequence numbers of keys that have been silent.
    pub stream_heads: Duration,
    /// Records of redrives.
    pub redrive_log: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { journal_days: 30, sensitive: DAY, inbox_days: 30, stream_heads: 90 * DAY, redrive_log: 365 * DAY }
    }
}

impl Outbox {
    /// An outbox in the schema `messaging` of this database. `producer` is the service's name; it travels with every event.
    pub fn new(pool: PgPool, producer: &'static str) -> Self {
        Self::with_retention(pool, producer, Retention::default())
    }

    /// As [`Outbox::new`], with other retention.
    pub fn with_retention(pool: PgPool, producer: &'static str, retention: Retention) -> Self {
        let shared = Shared {
            producer,
            retention,
            health: Health::default(),
            wake: Wake::default(),
            jobs: Notify::new(),
            backlog: Mutex::default(),
        };
        Self { pool, shared: Arc::new(shared), answer_deadline: ANSWER_DEADLINE }
    }

    /// The same outbox on another pool of the same database, for a part that must not compete for connections with the others.
    pub fn on(&self, pool: PgPool) -> Self {
        Self { pool, ..self.clone() }
    }

    /// As it is, with another deadline for the answers of the database than [`ANSWER_DEADLINE`].
    #[must_use]
    pub fn answer_deadline(self, deadline: Duration) -> Self {
        Self { answer_deadline: deadline, ..self }
    }

    /// The pool, for reading. Writes belong into [`Outbox::begin`].
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Brings the schema `messaging` up to date, with the partitions of today. Waits, with backoff and for ever, for a database that is not there yet.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut migrations = sqlx::migrate!();
        // While a newer version is deployed, or taken back, this one starts on its tables.
        migrations.set_ignore_missing(true);
        pool::migrate(&self.pool, &migrations).await?;
        // After a week without upkeep, as on an old copy of the database, there are none, and what comes in has no place.
        let mut failures = 0;
        while let Err(error) = self.answered(self.maintain_partitions()).await {
            if self.has_today().await.unwrap_or(false) {
                debug!(%error, "the partitions of the next days are left to the relay");
                break;
            }
            failures += 1;
            let delay = RECONNECT.delay(failures);
            warn!(%error, ?delay, "the partition of today is missing");
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// Whether what comes in today has its place in the inbox.
    async fn has_today(&self) -> Result<bool, sqlx::Error> {
        let looking = sqlx::query_scalar!(
            r#"select to_regclass('messaging.inbox_' || to_char(now() at time zone 'utc', 'YYYYMMDD')) is not null as "there!""#
        );
        self.answered(looking.fetch_one(&self.pool)).await
    }

    /// Begins a transaction. Dropping it rolls back.
    pub async fn begin(&self) -> Result<OutboxTransaction, sqlx::Error> {
        self.begin_with("begin").await
    }

    /// The same, with settings that hold as long as the transaction: statements that begin it, in one round trip.
    pub(crate) async fn begin_with(&self, statements: &'static str) -> Result<OutboxTransaction, sqlx::Error> {
        let (pool, deadline) = (self.pool.clone(), self.answer_deadline);
        // sqlx 0.9 returns a connection with an open transaction to the pool when `begin` is cancelled half-way, and callers
        // are cancelled by time limits. A task of its own always runs to the end, and then drops the transaction properly.
        #[expect(clippy::disallowed_methods, reason = "bounded by a deadline; see above")]
        let begun = tokio::spawn(async move {
            pool::answered(deadline, async {
                let begun = Transaction::begin(pool.acquire().await?, Some(statements.into_sql_str())).await;
                if let Err(sqlx::Error::Database(error)) = &begun {
                    // The first statement has begun it, and a later one has failed it: sqlx ends only what has begun as a whole, and the
                    // next user would find a transaction that takes nothing any more.
                    pool::distrust(error.as_ref());
                }
                begun
            })
            .await
        });
        let tx = begun.await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        Ok(OutboxTransaction::new(tx, self.clone()))
    }

    /// Waits for the database, but not for ever: see [`pool::answered`].
    pub(crate) async fn answered<T, E: From<sqlx::Error>>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        pool::answered(self.answer_deadline, asked).await
    }

    /// What waits for the broker, as it was when that was last measured; nothing, before that. Whoever takes requests that announce something
    /// can stop in time, so that an outbox that nobody empties does not grow without bound.
    pub fn backlog(&self) -> Backlog {
        *self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_backlog(&self, backlog: Backlog) {
        *self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
    }

    /// How the relay, the consumers and the workers on this outbox are, and what is wrong.
    pub fn health(&self) -> Vec<Check> {
        self.shared.health.checks()
    }
}

/// Tells the relay that a lane has something, without a poll.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// A bit for each lane that the relay of this process holds.
    pub(crate) held: AtomicU16,
    /// Rung for a lane that is held here.
    pub(crate) local: Notify,
    /// Lanes with news that some other process holds.
    remote_lanes: AtomicU16,
    pub(crate) remote: Notify,
}

impl Wake {
    /// Called after a commit, never before: who wakes earlier finds nothing.
    pub(crate) fn lanes(&self, lanes: u16) {
        let held = self.held.load(Ordering::Acquire);
        if lanes & held != 0 {
            self.local.notify_one();
        }
        if lanes & !held != 0 {
            self.remote_lanes.fetch_or(lanes & !held, Ordering::AcqRel);
            self.remote.notify_one();
        }
    }

    pub(crate) fn take_remote(&self) -> u16 {
        self.remote_lanes.swap(0, Ordering::AcqRel)
    }
}

/// The bit of a lane.
pub(crate) fn lane_bit(lane: i16) -> u16 {
    1 << (lane & 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_whose_transaction_failed_while_it_began_is_not_used_again() {
        let database = testkit::Database::create().await;
        let outbox = Outbox::new(pool::connect_lazy(&database.url, "test", 1).unwrap(), "test");
        assert!(outbox.begin_with("begin; select 1 / 0").await.is_err());
        let mut tx = outbox.begin().await.unwrap();
        sqlx::query("select").execute(&mut *tx).await.unwrap();
        tx.commit_own().await.unwrap();
    }
}
