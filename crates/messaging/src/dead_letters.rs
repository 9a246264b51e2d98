//! Dead letters: what they are, why they died, and what to do with them. Every decision is recorded with the name of who made it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use failpoints::without;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use tracing::Span;
use uuid::Uuid;

use crate::{
    Envelope, Error, Outbox, OutboxTransaction,
    consumer::parking::{lock_key, promote_next},
    context::{REDRIVE, TraceContext},
    handler::ErasedHandler,
};

/// The dead letters of one consumer.
#[derive(Clone)]
pub struct DeadLetters {
    consumer: &'static str,
    outbox: Outbox,
    handlers: HashMap<&'static str, Arc<dyn ErasedHandler>>,
    ring: Arc<dyn Fn() + Send + Sync>,
}

/// A dead letter, without its content.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// The message.
    pub message_id: Uuid,
    /// Its event type; empty if it had none.
    pub event_type: String,
    /// The service that announced it.
    pub producer: String,
    /// The aggregate that it is about.
    pub key: String,
    /// Its number among the events of its key.
    pub seq: i64,
    /// Attempts that were made.
    pub attempts: i32,
    /// The last failure.
    pub reason: Option<String>,
    /// When it died.
    pub died_at: Option<DateTime<Utc>>,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
}

/// A dead letter with its history and its content.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetterDetail {
    /// What the list shows of it.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// `[{"at", "attempt", "error"}]`, the latest last.
    pub history: Value,
    /// The event in words, its sensitive fields redacted; or why it cannot be decoded.
    pub content: Result<String, String>,
    /// The size of the payload in bytes.
    pub bytes: usize,
}

/// Dead letters that failed alike.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Group {
    /// Their event type.
    pub event_type: String,
    /// Their last failure.
    pub reason: Option<String>,
    /// How many they are.
    pub count: i64,
}

/// Which dead letters are meant. Empty means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this event type.
    pub event_type: Option<String>,
    /// Only with this last failure.
    pub reason: Option<String>,
}

impl DeadLetters {
    pub(crate) fn new(
        consumer: &'static str,
        outbox: Outbox,
        handlers: HashMap<&'static str, Arc<dyn ErasedHandler>>,
        ring: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { consumer, outbox, handlers, ring }
    }

    /// The newest dead letters first.
    pub async fn list(&self, filter: &Filter, limit: i64) -> Result<Vec<DeadLetter>, Error> {
        Ok(sqlx::query_as!(
            DeadLetter,
            "select message_id, type as event_type, producer, key, seq, attempts, reason, died_at, trace_id
             from messaging.parked
             where consumer = $1 and state = 'dead' and ($2::text is null or type = $2) and ($3::text is null or reason = $3)
             order by died_at desc, id desc limit $4",
            self.consumer,
            filter.event_type,
            filter.reason,
            limit,
        )
        .fetch_all(&self.outbox.pool)
        .await?)
    }

    /// How many died of what, the most frequent first.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        Ok(sqlx::query_as!(
            Group,
            r#"select type as event_type, reason, count(*) as "count!" from messaging.parked
               where consumer = $1 and state = 'dead' group by type, reason order by count(*) desc, type, reason"#,
            self.consumer,
        )
        .fetch_all(&self.outbox.pool)
        .await?)
    }

    /// One dead letter with everything that is known of it; None if there is no such one.
    pub async fn show(&self, message_id: Uuid) -> Result<Option<DeadLetterDetail>, Error> {
        let row = sqlx::query!(
            "select message_id, type as event_type, producer, key, seq, attempts, reason, died_at, trace_id, history, payload
             from messaging.parked where consumer = $1 and message_id = $2 and state = 'dead'",
            self.consumer,
            message_id,
        )
        .fetch_optional(&self.outbox.pool)
        .await?;
        Ok(row.map(|row| DeadLetterDetail {
            content: match self.handlers.get(row.event_type.as_str()) {
                Some(handler) => handler.describe(&row.payload),
                None => Err(format!("no handler for {:?}", row.event_type)),
            },
            bytes: row.payload.len(),
            history: row.history,
            letter: DeadLetter {
                message_id: row.message_id,
                event_type: row.event_type,
                producer: row.producer,
                key: row.key,
                seq: row.seq,
                attempts: row.attempts,
                reason: row.reason,
                died_at: row.died_at,
                trace_id: row.trace_id,
            },
        }))
    }

    /// Has a dead letter tried again, with all its attempts. If newer events of its key had their effect meanwhile, the handler is told by
    /// [`Envelope::late`]. False if there is no such dead letter.
    pub async fn retry(&self, message_id: Uuid, actor: &str) -> Result<bool, Error> {
        self.redrive(message_id, actor, None).await
    }

    /// As [`retry`](Self::retry), with another payload.
    pub async fn edit_and_retry(&self, message_id: Uuid, payload: &[u8], actor: &str) -> Result<bool, Error> {
        self.redrive(message_id, actor, Some(payload)).await
    }

    /// Retries every dead letter that the filter means, the oldest first and at most `per_second` of them in a second. Returns how many.
    pub async fn retry_all(&self, filter: &Filter, actor: &str, per_second: u32) -> Result<u64, Error> {
        let pause = Duration::from_secs(1) / per_second.max(1);
        let mut letters = self.list(filter, i64::MAX).await?;
        letters.reverse();
        let mut count = 0;
        for letter in letters {
            count += u64::from(self.retry(letter.message_id, actor).await?);
            tokio::time::sleep(pause).await;
        }
        Ok(count)
    }

    /// Gives a dead letter up: it will never have its effect, however often it is delivered. False if there is no such one.
    pub async fn discard(&self, message_id: Uuid, actor: &str) -> Result<bool, Error> {
        let mut tx = self.outbox.begin().await?;
        let discarded = discard(&mut tx, self.consumer, message_id, actor).await?;
        tx.commit().await?;
        Ok(discarded)
    }

    async fn redrive(&self, message_id: Uuid, actor: &str, payload: Option<&[u8]>) -> Result<bool, Error> {
        let mut tx = self.outbox.begin().await?;
        let Some(letter) = sqlx::query!(
            "select producer, key, type, reason from messaging.parked
             where consumer = $1 and message_id = $2 and state = 'dead'",
            self.consumer,
            message_id,
        )
        .fetch_optional(&mut *tx)
        .await?
        else {
            return Ok(false);
        };
        lock_key(&mut tx, self.consumer, &letter.producer, &letter.key).await?;
        let decision = TraceContext::of(&Span::current());
        let revived = sqlx::query!(
            "update messaging.parked
             set state = 'waiting', attempts = 0, died_at = null, payload = coalesce($3, payload), next_attempt_at = null,
                 -- it stays in its own trace, and links to that of this decision
                 context = context || jsonb_build_object($4::text, $5::text)
             where consumer = $1 and message_id = $2 and state = 'dead'",
            self.consumer,
            message_id,
            payload,
            REDRIVE,
            decision.traceparent().unwrap_or_default(),
        )
        .execute(&mut *tx)
        .await?;
        if revived.rows_affected() == 0 {
            return Ok(false);
        }
        if !without("redrive") {
            promote_next(&mut tx, self.consumer, &letter.producer, &letter.key).await?;
        }
        // A deadline waits for nobody, and so does what was never in any order.
        sqlx::query!(
            "update messaging.parked set next_attempt_at = now()
             where consumer = $1 and message_id = $2 and deadline and next_attempt_at is null",
            self.consumer,
            message_id,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "insert into messaging.redrive_log (actor, action, consumer, message_id, type, reason)
             values ($1, $2, $3, $4, $5, $6)",
            actor,
            if payload.is_some() { "edit" } else { "retry" },
            self.consumer,
            message_id,
            letter.r#type,
            letter.reason,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        (self.ring)();
        Ok(true)
    }
}

/// Gives one up, in the caller's transaction.
async fn discard(conn: &mut PgConnection, consumer: &str, message_id: Uuid, actor: &str) -> Result<bool, sqlx::Error> {
    let discarded = sqlx::query!(
        "with gone as (
             delete from messaging.parked where consumer = $1 and message_id = $2 and state = 'dead'
             returning message_id, type, reason
         )
         insert into messaging.redrive_log (actor, action, consumer, message_id, type, reason)
         select $3, 'discard', $1, message_id, type, reason from gone",
        consumer,
        message_id,
        actor,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected()
        == 1;
    // The inbox absorbs what may still be in the broker. What has no place there, because it has no time in its id or is older than the
    // inbox, would not be admitted anyway.
    if discarded && let Some(partition) = inbox_partition(message_id) {
        sqlx::query!(
            "insert into messaging.inbox (message_id, consumer)
             select $1, $2 where to_regclass($3) is not null on conflict do nothing",
            message_id,
            consumer,
            partition,
        )
        .execute(conn)
        .await?;
    }
    Ok(discarded)
}

impl OutboxTransaction {
    /// In a handler: gives up every dead letter of this service that has the producer and the key of the message in hand, as when they are about a
    /// person who has to be forgotten. On record as a discard by `actor`. Returns how many were given up.
    pub async fn discard_dead_letters(&mut self, actor: &str) -> Result<u64, sqlx::Error> {
        let Some(Envelope { producer, key, .. }) = self.envelope().cloned() else { return Ok(0) };
        let letters = sqlx::query!(
            "select consumer, message_id from messaging.parked where producer = $1 and key = $2 and state = 'dead'",
            producer,
            key
        )
        .fetch_all(&mut **self)
        .await?;
        let mut count = 0;
        for letter in letters {
            count += u64::from(discard(self, &letter.consumer, letter.message_id, actor).await?);
        }
        Ok(count)
    }
}

/// The partition for the day in an id (`messaging.maintain_partitions`).
fn inbox_partition(message_id: Uuid) -> Option<String> {
    let (seconds, _) = message_id.get_timestamp().filter(|_| message_id.get_version_num() == 7)?.to_unix();
    let day = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?.date_naive();
    Some(format!("messaging.inbox_{}", day.format("%Y%m%d")))
}
