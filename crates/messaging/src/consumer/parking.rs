//! Puts messages aside in Postgres: to be tried later, to wait behind an earlier one of their key, or for good.
//!
//! Joining a key's queue and leaving it take the same lock, so that nobody waits behind a message that has just left.

use chrono::Utc;
use failpoints::hit;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tracing::{error, warn};
use uuid::Uuid;

use crate::{Consumer, Envelope, HandlerError, consumer::channel::Message};

/// Entries that a history keeps.
const HISTORY: i32 = 20;

/// Whether a message was put behind another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parked {
    Yes,
    NothingAhead,
}

impl Consumer {
    /// Puts a message aside after its first failure. With a single attempt it is dead.
    pub(super) async fn park(&self, message: &Message, reason: &str) -> Result<(), HandlerError> {
        if self.retry.max_attempts <= 1 {
            return self.bury(message, reason).await;
        }
        let delay = self.retry.delay(1);
        let envelope = &message.envelope;
        let mut tx = self.outbox.begin().await?;
        lock_key(&mut tx, self.name, &envelope.producer, &envelope.key).await?;
        self.insert(&mut tx, message, "waiting", Some(delay.as_secs_f64()), Some(reason)).await?;
        hit("consumer.before_parking").await.map_err(sqlx::Error::Io)?;
        tx.commit().await?;
        hit("consumer.after_parking").await.map_err(sqlx::Error::Io)?;
        self.meters().parked.increment(1);
        warn!(
            consumer = self.name,
            event_type = envelope.event_type,
            message_id = %envelope.message_id,
            trace_id = envelope.trace_id(),
            reason,
            ?delay,
            "a message failed and will be tried again"
        );
        self.state.parked.notify_one();
        Ok(())
    }

    /// Makes a message a dead letter: it can never be handled as it is.
    pub(super) async fn bury(&self, message: &Message, reason: &str) -> Result<(), HandlerError> {
        let mut tx = self.outbox.begin().await?;
        self.insert(&mut tx, message, "dead", None, Some(reason)).await?;
        hit("consumer.before_burial").await.map_err(sqlx::Error::Io)?;
        tx.commit().await?;
        hit("consumer.after_burial").await.map_err(sqlx::Error::Io)?;
        self.announce_death(&message.envelope, reason);
        Ok(())
    }

    pub(super) fn announce_death(&self, envelope: &Envelope, reason: &str) {
        self.meters().died(&envelope.event_type);
        error!(
            consumer = self.name,
            event_type = envelope.event_type,
            message_id = %envelope.message_id,
            trace_id = envelope.trace_id(),
            reason,
            "a message is dead"
        );
    }

    /// Puts a message behind the parked one of its key, unless that has just left.
    pub(super) async fn park_behind(&self, message: &Message) -> Result<Parked, HandlerError> {
        let envelope = &message.envelope;
        let mut tx = self.outbox.begin().await?;
        lock_key(&mut tx, self.name, &envelope.producer, &envelope.key).await?;
        let ahead = sqlx::query_scalar!(
            r#"select exists (select from messaging.parked
                              where consumer = $1 and producer = $2 and key = $3 and state = 'waiting' and not deadline) as "ahead!""#,
            self.name,
            envelope.producer,
            envelope.key,
        )
        .fetch_one(&mut *tx)
        .await?;
        if !ahead {
            return Ok(Parked::NothingAhead);
        }
        self.insert(&mut tx, message, "waiting", None, None).await?;
        tx.commit().await?;
        self.meters().parked_behind.increment(1);
        Ok(Parked::Yes)
    }

    async fn insert(
        &self,
        conn: &mut PgConnection,
        message: &Message,
        state: &str,
        delay_seconds: Option<f64>,
        reason: Option<&str>,
    ) -> Result<(), sqlx::Error> {
        let envelope = &message.envelope;
        let history = reason.map_or_else(|| json!([]), |reason| json!([entry(1, reason)]));
        // A message that is here already stays as it is: this is a second copy of it.
        sqlx::query!(
            "insert into messaging.parked
                 (consumer, message_id, producer, type, key, seq, payload, context, deadline, occurred_at,
                  state, attempts, next_attempt_at, reason, history, died_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                     $11, $12, now() + make_interval(secs => $13), $14, $15, case when $11 = 'dead' then now() end)
             on conflict (consumer, message_id) do nothing",
            self.name,
            envelope.message_id,
            envelope.producer,
            envelope.event_type,
            envelope.key,
            envelope.seq,
            message.payload,
            json!(envelope.context),
            envelope.deadline,
            envelope.occurred_at,
            state,
            i32::from(reason.is_some()),
            delay_seconds,
            reason,
            history,
        )
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// Serialises joining and leaving the parked messages of a key, to the end of the transaction.
pub(crate) async fn lock_key(
    conn: &mut PgConnection,
    consumer: &str,
    producer: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 5107))",
        format!("messaging.parked {consumer} {producer} {key}"),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes the next message of a key due, after the one ahead of it has left. The key must be locked.
pub(crate) async fn promote_next(
    conn: &mut PgConnection,
    consumer: &str,
    producer: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update messaging.parked set next_attempt_at = coalesce(next_attempt_at, now())
         where id = (select id from messaging.parked
                     where consumer = $1 and producer = $2 and key = $3 and state = 'waiting' and not deadline
                     order by seq, id limit 1)",
        consumer,
        producer,
        key,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One line of a message's history.
pub(crate) fn entry(attempt: u32, error: &str) -> Value {
    json!({ "at": Utc::now(), "attempt": attempt, "error": error })
}

/// Appends to the history of a message, keeping the latest entries. Only under the lease that its attempt was made with.
pub(crate) async fn record_failure(
    conn: &mut PgConnection,
    id: i64,
    lease: Uuid,
    failure: &Failure<'_>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "update messaging.parked
         set state = $3, attempts = attempts - $4, lease = null, reason = $5,
             next_attempt_at = now() + make_interval(secs => $6),
             died_at = case when $3 = 'dead' then now() end,
             history = (select coalesce(jsonb_agg(entry order by n), '[]')
                        from (select entry, n from jsonb_array_elements(history || $7) with ordinality as e (entry, n)
                              order by n desc limit $8) as latest)
         where id = $1 and lease = $2",
        id,
        lease,
        if failure.dead { "dead" } else { "waiting" },
        i32::from(failure.unspent),
        failure.reason,
        failure.delay_seconds,
        failure.entry,
        i64::from(HISTORY),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How an attempt at a parked message failed.
pub(crate) struct Failure<'a> {
    pub(crate) dead: bool,
    /// It was nobody's fault: the attempt is given back.
    pub(crate) unspent: bool,
    pub(crate) reason: &'a str,
    pub(crate) delay_seconds: Option<f64>,
    pub(crate) entry: Value,
}
