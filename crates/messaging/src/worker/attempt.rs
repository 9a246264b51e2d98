//! One attempt at a job: the work, what it means, and its record in one transaction.

use std::{panic::AssertUnwindSafe, time::Duration};

use chrono::Utc;
use failpoints::{hit, without};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument as _, error, warn};

use super::{Job, Outcome, Task, TaskError, Worker};
use crate::{
    HandlerError,
    context::spans,
    error::{Verdict, chain},
    meters,
    retry::RECONNECT,
};

/// What an attempt means for the attempts after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Fair,
    Down,
}

impl<T: Task> Worker<T> {
    /// Makes one attempt at a job, and records what came of it.
    pub(super) async fn work(self, job: Job) -> Weather {
        let lease_ends = Instant::now() + self.lease();
        let span = spans::job(T::NAME, job.id, job.attempt, &job.context);
        async {
            let result = self.attempt(&job).await;
            let (outcome, weather) = self.judge(&job, result);
            meters::job_tried(T::NAME, outcome.name());
            if let Outcome::Retrying { error, .. } | Outcome::Failed { error, .. } = &outcome {
                let kind = match (weather, &outcome) {
                    (Weather::Down, _) => "unavailable",
                    (Weather::Fair, Outcome::Failed { .. }) => "failed",
                    (Weather::Fair, _) => "retry",
                };
                spans::fail(&tracing::Span::current(), kind, error);
                if let Outcome::Failed { .. } = &outcome {
                    error!(task = T::NAME, job = %job.id, attempt = job.attempt, error, "a job is given up");
                } else {
                    warn!(task = T::NAME, job = %job.id, attempt = job.attempt, error, "a job failed and will be tried again");
                }
            }
            self.settle(&job, outcome, weather, lease_ends).await;
            weather
        }
        .instrument(span)
        .await
    }

    /// One attempt. None is made any more when the last ones came to no end, with their processes or their records.
    async fn attempt(&self, job: &Job) -> Result<T::Done, TaskError> {
        if job.attempt > self.retry.max_attempts && !without("lost-attempts") {
            return Err(TaskError::retry("the attempts before came to no end"));
        }
        let performing = AssertUnwindSafe(self.task.perform(job)).catch_unwind();
        match timeout(self.deadline, performing).await {
            Ok(Ok(result)) => result,
            // The panic hook has logged it.
            Ok(Err(_panic)) => Err(TaskError::retry("it panicked")),
            Err(_) => Err(TaskError::retry(format!("it took longer than {:?}", self.deadline))),
        }
    }

    /// Records what came of it, and does not give up while the database is away and the lease lasts: nobody knows of it yet, and whoever takes
    /// the job next would do it a second time.
    async fn settle(&self, job: &Job, outcome: Outcome<T::Done>, weather: Weather, lease_ends: Instant) {
        for tries in 1.. {
            let Err(error) = self.outbox.answered(self.finish(job, outcome.clone(), weather)).await else { return };
            let away = matches!(error.verdict(), Verdict::Unavailable | Verdict::Again) && !without("recorded-again");
            let next = Instant::now() + RECONNECT.delay(tries);
            if away && next < lease_ends {
                warn!(task = T::NAME, job = %job.id, ?error, "the outcome of a job could not be recorded yet");
                sleep_until(next).await;
                continue;
            }
            // The lease expires and the job is done again; the provider's idempotency makes that harmless.
            warn!(task = T::NAME, job = %job.id, ?error, "the outcome of a job could not be recorded");
            if matches!(error.verdict(), Verdict::Retry | Verdict::Reject) {
                self.put_off(job, &error).await;
            }
            return;
        }
    }

    /// What cannot be recorded is not tried again at once, and each time later.
    async fn put_off(&self, job: &Job, error: &HandlerError) {
        let delay = self.retry.delay(job.attempt);
        let putting_off = async {
            sqlx::query!(
                "update messaging.job
                 set lease = null, last_error = $4, due_at = greatest(due_at, now() + make_interval(secs => $5))
                 where task = $1 and id = $2 and lease = $3",
                T::NAME,
                job.id,
                job.lease,
                error.message(),
                delay.as_secs_f64(),
            )
            .execute(&self.outbox.pool)
            .await
        };
        if let Err(error) = self.outbox.answered(putting_off).await {
            warn!(task = T::NAME, job = %job.id, %error, "a job cannot be put off; its lease will expire");
        }
    }

    fn judge(&self, job: &Job, result: Result<T::Done, TaskError>) -> (Outcome<T::Done>, Weather) {
        let attempts = job.attempt;
        let later = |error: String, made: u32| {
            let delay = self.retry.delay(made);
            Outcome::Retrying { error, attempts: made, next_attempt_at: Utc::now() + delay }
        };
        match result {
            Ok(done) => (Outcome::Done(done), Weather::Fair),
            Err(TaskError::Later(wait)) => (Outcome::Postponed { until: Utc::now() + wait }, Weather::Fair),
            Err(TaskError::Unavailable(error)) => (later(chain(error.as_ref()), attempts - 1), Weather::Down),
            Err(TaskError::Retry(error)) if attempts < self.retry.max_attempts => {
                (later(chain(error.as_ref()), attempts), Weather::Fair)
            }
            Err(TaskError::Retry(error)) => {
                (Outcome::Failed { error: chain(error.as_ref()), attempts, exhausted: true }, Weather::Fair)
            }
            Err(TaskError::Fail(error)) => {
                (Outcome::Failed { error: chain(error.as_ref()), attempts, exhausted: false }, Weather::Fair)
            }
        }
    }

    /// Records the outcome and finishes or reschedules the job in one transaction, if the lease is still this worker's.
    async fn finish(&self, job: &Job, outcome: Outcome<T::Done>, weather: Weather) -> Result<(), HandlerError> {
        hit("worker.before_record").await.map_err(sqlx::Error::Io)?;
        let mut tx = self.outbox.begin().await?;
        let again = match &outcome {
            // While everything is down the worker itself waits; the job is due as soon as it looks again.
            Outcome::Retrying { error, attempts, .. } if weather == Weather::Down => {
                Some((Some(error), *attempts, Duration::ZERO))
            }
            Outcome::Retrying { error, attempts, .. } => Some((Some(error), *attempts, self.retry.delay(*attempts))),
            Outcome::Postponed { until } => {
                Some((None, job.attempt - 1, (*until - Utc::now()).to_std().unwrap_or_default()))
            }
            Outcome::Done(_) | Outcome::Failed { .. } => None,
        };
        let mine = if let Some((error, attempts, delay)) = again {
            sqlx::query!(
                "update messaging.job
                 set lease = null, last_error = $4, attempts = $5, due_at = now() + make_interval(secs => $6), urgent = urgent and $7
                 where task = $1 and id = $2 and lease = $3",
                T::NAME,
                job.id,
                job.lease,
                error.map(String::as_str),
                i32::try_from(attempts).unwrap_or(i32::MAX),
                delay.as_secs_f64(),
                weather == Weather::Fair,
            )
            .execute(&mut *tx)
            .await?
        } else {
            sqlx::query!(
                "delete from messaging.job where task = $1 and id = $2 and lease = $3",
                T::NAME,
                job.id,
                job.lease,
            )
            .execute(&mut *tx)
            .await?
        };
        if mine.rows_affected() == 0 {
            return Err(HandlerError::retry("it is recorded already, or the lease has passed to another worker"));
        }
        self.task.record(job, outcome, &mut tx).await?;
        hit("worker.before_commit").await.map_err(sqlx::Error::Io)?;
        tx.commit().await?;
        hit("worker.after_commit").await.map_err(sqlx::Error::Io)?;
        Ok(())
    }
}
