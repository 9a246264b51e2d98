//! Tries parked messages again when they are due. Every replica does; each attempt is counted and committed before it begins, so a message
//! that kills the process runs out of attempts like any other.

use std::time::Duration;

use chrono::Utc;
use failpoints::{hit, without};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    Consumer, Envelope, Error, HandlerError, OutboxTransaction,
    consumer::parking::{Failure, entry, lock_key, promote_next, record_failure},
    context::TraceContext,
    error::Verdict,
    pool,
    retry::RECONNECT,
    transaction::Plans,
};

/// Parked messages that a replica claims at once. One: a claim counts as an attempt, and should the process die over a message, no other one
/// shall have spent an attempt with it, nor wait for its lease to end.
const BATCH: i64 = 1;

/// A parked message under lease.
struct Attempt {
    id: i64,
    lease: Uuid,
    envelope: Envelope,
    payload: Vec<u8>,
}

impl Consumer {
    pub(super) async fn run_retries(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut failures = 0;
        let mut unspent = Vec::new();
        while !stop.is_cancelled() {
            let rung = self.state.parked.notified();
            let wait = match self.retry_due(stop, &mut unspent).await {
                Ok(0) => {
                    failures = 0;
                    self.options.poll
                }
                Ok(_) => continue,
                Err(error) => {
                    failures += 1;
                    let delay = RECONNECT.delay(failures);
                    warn!(%error, ?delay, "parked messages cannot be read");
                    delay
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = rung, if failures == 0 => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Tries what is due, once. Returns how many that were. An outage can cut an attempt short and keep that from being recorded: such attempts are
    /// left in `unspent`, and given back before anything else.
    async fn retry_due(&self, stop: &CancellationToken, unspent: &mut Vec<Attempt>) -> Result<usize, sqlx::Error> {
        while let Some(attempt) = unspent.last() {
            self.outbox.answered(self.give_back(attempt)).await?;
            unspent.pop();
        }
        if self.state.pause.until().is_some() {
            return Ok(0);
        }
        let attempts = self.outbox.answered(self.claim()).await?;
        if !attempts.is_empty() {
            hit("retries.after_claim").await?;
        }
        let count = attempts.len();
        for attempt in attempts {
            if stop.is_cancelled() {
                self.outbox.answered(self.give_back(&attempt)).await?;
                continue;
            }
            let _together = self.state.suspects.read().await;
            self.meters().retries.increment(1);
            self.attempt(attempt, unspent).await?;
        }
        Ok(count)
    }

    async fn claim(&self) -> Result<Vec<Attempt>, sqlx::Error> {
        let lease = Uuid::now_v7();
        // Longer than the attempt can take; should this process die, the message comes due again then.
        let lease_for = self.options.handler_deadline + Duration::from_secs(30);
        let rows = sqlx::query!(
            r#"update messaging.parked
               set attempts = attempts + 1, lease = $2, next_attempt_at = now() + make_interval(secs => $3)
               where id in (
                   select id from messaging.parked
                   where consumer = $1 and state = 'waiting' and next_attempt_at <= now()
                   order by next_attempt_at limit $4
                   -- what another replica is claiming is in good hands
                   for update skip locked)
               returning id, message_id, producer, type as event_type, key, seq, payload,
                         context as "context: sqlx::types::Json<TraceContext>", deadline, occurred_at, attempts"#,
            self.name,
            lease,
            lease_for.as_secs_f64(),
            BATCH,
        )
        .fetch_all(&self.outbox.pool)
        .await?;
        let mut attempts: Vec<_> = rows
            .into_iter()
            .map(|row| Attempt {
                id: row.id,
                lease,
                payload: row.payload,
                envelope: Envelope {
                    message_id: row.message_id,
                    event_type: row.event_type,
                    producer: row.producer,
                    key: row.key,
                    seq: row.seq,
                    occurred_at: row.occurred_at,
                    attempt: u32::try_from(row.attempts).unwrap_or(1),
                    late: false,
                    replayed: false,
                    deadline: row.deadline,
                    context: row.context.0,
                },
            })
            .collect();
        attempts.sort_by_key(|attempt| attempt.id);
        Ok(attempts)
    }

    async fn attempt(&self, attempt: Attempt, unspent: &mut Vec<Attempt>) -> Result<(), sqlx::Error> {
        let result = if attempt.envelope.attempt > self.retry.max_attempts {
            Err(HandlerError::reject("the process died during the last attempt"))
        } else {
            let deadline = self.options.handler_deadline + self.outbox.answer_deadline;
            pool::answered(deadline, self.try_parked(&attempt)).await
        };
        match result {
            Ok(()) => {
                let age = (Utc::now() - attempt.envelope.occurred_at).to_std().unwrap_or_default();
                self.meters().handled.increment(1);
                self.meters().end_to_end.record(age.as_secs_f64());
                info!(
                    consumer = self.name,
                    message_id = %attempt.envelope.message_id,
                    trace_id = attempt.envelope.trace_id(),
                    attempt = attempt.envelope.attempt,
                    "a parked message was handled"
                );
                Ok(())
            }
            Err(error) => {
                let recorded = self.outbox.answered(self.failed(&attempt, &error)).await;
                if recorded.is_err() && error.verdict() == Verdict::Unavailable {
                    unspent.push(attempt);
                }
                recorded
            }
        }
    }

    async fn try_parked(&self, attempt: &Attempt) -> Result<(), HandlerError> {
        let mut tx = OutboxTransaction::by_index(&self.outbox, Plans::Kept).await?;
        let Envelope { producer, key, .. } = &attempt.envelope;
        if let Some(late) = self.readmit(&mut tx, &attempt.envelope).await? {
            let envelope = Envelope { late, ..attempt.envelope.clone() };
            self.call(envelope, None, &attempt.payload, &mut tx).await?;
        }
        lock_key(&mut tx, self.name, producer, key).await?;
        let mine = sqlx::query!("delete from messaging.parked where id = $1 and lease = $2", attempt.id, attempt.lease)
            .execute(&mut *tx)
            .await?;
        if mine.rows_affected() == 0 {
            return Err(HandlerError::unavailable("the lease on the parked message has passed to another replica"));
        }
        promote_next(&mut tx, self.name, producer, key).await?;
        hit("retries.before_commit").await.map_err(sqlx::Error::Io)?;
        tx.commit().await?;
        hit("retries.after_commit").await.map_err(sqlx::Error::Io)?;
        self.state.parked.notify_one();
        Ok(())
    }

    async fn failed(&self, attempt: &Attempt, error: &HandlerError) -> Result<(), sqlx::Error> {
        let verdict = error.verdict();
        let made = attempt.envelope.attempt;
        let unspent = verdict == Verdict::Unavailable;
        let exhausted = !unspent && made >= self.retry.max_attempts && !without("last-attempt");
        let dead = verdict == Verdict::Reject || exhausted;
        let reason = error.message();
        let delay = if unspent { self.state.pause.extend().delay() } else { self.retry.delay(made) };
        let Envelope { producer, key, .. } = &attempt.envelope;
        let mut tx = self.outbox.begin().await?;
        lock_key(&mut tx, self.name, producer, key).await?;
        let failure = Failure {
            dead,
            unspent,
            reason: &reason,
            delay_seconds: (!dead).then_some(delay.as_secs_f64()),
            entry: entry(made, &reason),
        };
        let mine = record_failure(&mut tx, attempt.id, attempt.lease, &failure).await?;
        if mine && dead {
            // The dead release their key.
            promote_next(&mut tx, self.name, producer, key).await?;
        }
        hit("retries.before_failure").await?;
        tx.commit().await?;
        if mine && dead {
            self.announce_death(&attempt.envelope, &reason);
            self.state.parked.notify_one();
        } else if mine {
            self.meters().retries_failed.increment(1);
            warn!(
                consumer = self.name,
                message_id = %attempt.envelope.message_id,
                trace_id = attempt.envelope.trace_id(),
                attempt = made,
                reason,
                ?delay,
                "a parked message failed again"
            );
        }
        Ok(())
    }

    async fn give_back(&self, attempt: &Attempt) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update messaging.parked set attempts = attempts - 1, lease = null, next_attempt_at = now()
             where id = $1 and lease = $2",
            attempt.id,
            attempt.lease,
        )
        .execute(&self.outbox.pool)
        .await?;
        Ok(())
    }
}
