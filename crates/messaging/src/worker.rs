//! Work outside Postgres: mail, payment providers, anything that takes time or can fail on its own.
//!
//! A handler only decides that the work is wanted ([`OutboxTransaction::enqueue`]). A worker takes it on lease, does the I/O outside of any
//! transaction, and records the outcome in one. The I/O can happen twice, if the process dies after it or the database is away for longer than
//! the lease; pass the provider an id that makes the second time harmless.

mod attempt;
mod waiting;

use std::{error::Error as StdError, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use failpoints::{hit, without};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::{
    Error, HandlerError, Outbox, OutboxTransaction, RetryPolicy, context::TraceContext, meters, pool, relay,
    retry::RECONNECT,
};
use attempt::Weather;

/// A kind of work.
pub trait Task: Send + Sync + 'static {
    /// Names the work in the database; do not change it.
    const NAME: &'static str;
    /// What the work brings back.
    type Done: Clone + Send + 'static;

    /// Does the I/O, outside of any transaction and under the worker's deadline.
    fn perform(&self, job: &Job) -> impl Future<Output = Result<Self::Done, TaskError>> + Send;

    /// Records what came of it, in the transaction that finishes or reschedules the job. Asked again when that transaction was lost with the
    /// database.
    fn record(
        &self,
        job: &Job,
        outcome: Outcome<Self::Done>,
        tx: &mut OutboxTransaction,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// One piece of work under lease.
#[derive(Clone, Debug)]
pub struct Job {
    /// The thing that the work is about.
    pub id: Uuid,
    /// 1 for the first attempt.
    pub attempt: u32,
    lease: Uuid,
    context: TraceContext,
}

impl Job {
    /// The trace that the work belongs to, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<&str> {
        self.context.trace_id()
    }
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome<D> {
    /// It worked.
    Done(D),
    /// Nothing failed; it is not finished yet, and will be done again.
    Postponed {
        /// When it is due.
        until: DateTime<Utc>,
    },
    /// It failed and will be tried again.
    Retrying {
        /// The failure in one line.
        error: String,
        /// Attempts made so far.
        attempts: u32,
        /// When the next one is due.
        next_attempt_at: DateTime<Utc>,
    },
    /// It failed for good.
    Failed {
        /// The failure in one line.
        error: String,
        /// Attempts made.
        attempts: u32,
        /// True when another attempt would have been made if there were one left.
        exhausted: bool,
    },
}

impl<D> Outcome<D> {
    /// As the metrics call it.
    fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Postponed { .. } => "postponed",
            Self::Retrying { .. } => "retrying",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum TaskError {
    /// Try again later, up to the worker's limit.
    Retry(Box<dyn StdError + Send + Sync>),
    /// No attempt will ever work.
    Fail(Box<dyn StdError + Send + Sync>),
    /// What is needed is down: no attempt is spent, and the worker waits before it tries anything else.
    Unavailable(Box<dyn StdError + Send + Sync>),
    /// Nothing failed, but there is more to do after this time, such as to ask a provider that is still at it. No attempt is spent.
    Later(Duration),
}

impl TaskError {
    /// See [`TaskError::Retry`].
    pub fn retry(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }

    /// See [`TaskError::Fail`].
    pub fn fail(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Fail(error.into())
    }

    /// The service's own database failed: unavailable while it cannot be reached, else tried again. A row that cannot be read, because a newer
    /// version wrote it, is one job's trouble, and not everybody's.
    pub fn database(error: sqlx::Error) -> Self {
        if pool::is_unreachable(&error) { Self::unavailable(error) } else { Self::retry(error) }
    }

    /// See [`TaskError::Unavailable`].
    pub fn unavailable(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Works on the jobs of one task. Every replica runs one.
pub struct Worker<T> {
    outbox: Outbox,
    task: Arc<T>,
    concurrency: usize,
    deadline: Duration,
    retry: RetryPolicy,
    poll: Duration,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self { outbox: self.outbox.clone(), task: Arc::clone(&self.task), ..*self }
    }
}

impl<T: Task> Worker<T> {
    /// A worker with four jobs at once, 30 s for each, and 8 attempts from 5 s on.
    pub fn new(outbox: &Outbox, task: T) -> Self {
        Self {
            outbox: outbox.clone(),
            task: Arc::new(task),
            concurrency: 4,
            deadline: Duration::from_secs(30),
            retry: RetryPolicy::exponential(Duration::from_secs(5)),
            poll: Duration::from_secs(1),
        }
    }

    /// How many jobs run at once in this process.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs.max(1);
        self
    }

    /// How long one attempt may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// When failed jobs are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How often jobs are looked for when nothing rings, which is also how late a retry can be.
    pub fn poll(mut self, period: Duration) -> Self {
        self.poll = period;
        self
    }

    /// Works until `stop`, then finishes what is in hand.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        meters::describe_jobs(T::NAME);
        let deadline = self.outbox.answer_deadline;
        let measure = relay::every("counting jobs", waiting::PERIOD, deadline, &stop, || self.measure());
        tokio::try_join!(self.work_until(&stop), measure)?;
        Ok(())
    }

    async fn work_until(&self, stop: &CancellationToken) -> Result<(), Error> {
        let part = format!("worker {}", T::NAME);
        self.outbox.shared.health.set(&part, Ok("working".into()));
        let mut running: JoinSet<(Instant, Weather)> = JoinSet::new();
        let (mut failures, mut not_before) = (0_u32, Instant::now());
        let mut failed_at = Instant::now();
        while !stop.is_cancelled() {
            let rung = self.outbox.shared.jobs.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            // While something is down, one job at a time finds out whether it still is.
            let room = if failures > 0 { 1 } else { self.concurrency }.saturating_sub(running.len());
            let mut claimed = 0;
            if room > 0 && Instant::now() >= not_before {
                match self.outbox.answered(self.claim(room)).await {
                    Ok(jobs) => {
                        claimed = jobs.len();
                        if claimed == 0 && running.is_empty() && failures > 0 {
                            // The database is there, and there is nothing to find out the rest with.
                            failures = 0;
                            self.outbox.shared.health.set(&part, Ok("working".into()));
                        }
                        for job in jobs {
                            let (worker, began) = (self.clone(), Instant::now());
                            running.spawn(async move { (began, worker.work(job).await) });
                        }
                    }
                    Err(error) => {
                        warn!(task = T::NAME, %error, "jobs cannot be read");
                        self.outbox.shared.health.set(&part, Err("jobs cannot be read".into()));
                        (failures, not_before) = self.wait_longer(failures);
                    }
                }
            }
            if claimed == room && room > 0 && running.len() < self.concurrency {
                continue;
            }
            let now = Instant::now();
            let wait = if failures > 0 && not_before > now { not_before } else { now + self.poll };
            tokio::select! {
                () = stop.cancelled() => {}
                () = &mut rung, if failures == 0 => {}
                () = tokio::time::sleep_until(wait), if running.is_empty() || failures == 0 => {}
                Some(finished) = running.join_next() => match finished {
                    Ok((_, Weather::Fair)) => {
                        self.outbox.shared.health.set(&part, Ok("working".into()));
                        failures = 0;
                    }
                    // What was under way together fails together: one failure, and one wait.
                    Ok((began, Weather::Down)) if failures > 0 && began <= failed_at => {}
                    Ok((_, Weather::Down)) => {
                        failed_at = Instant::now();
                        (failures, not_before) = self.wait_longer(failures);
                        self.outbox.shared.health.set(&part, Err("what it needs is down".into()));
                    }
                    Err(error) => warn!(task = T::NAME, %error, "a job panicked; its lease will expire"),
                },
            }
        }
        while running.join_next().await.is_some() {}
        self.outbox.shared.health.set(&part, Err("stopped".into()));
        Ok(())
    }

    fn wait_longer(&self, failures: u32) -> (u32, Instant) {
        (failures + 1, Instant::now() + RECONNECT.delay(failures + 1))
    }

    /// Longer than an attempt and its record can take: a job whose worker died comes due again then.
    fn lease(&self) -> Duration {
        self.deadline * 2 + Duration::from_secs(10)
    }

    async fn claim(&self, room: usize) -> Result<Vec<Job>, sqlx::Error> {
        let lease = Uuid::now_v7();
        let rows = sqlx::query!(
            r#"with urgent as (
                   select id from messaging.job where task = $1 and urgent and due_at <= now() order by due_at limit $4
                   -- what another replica is claiming is in good hands
                   for update skip locked
               ), others as (
                   -- apart, so that each ends at what is not due yet, of which there may be much
                   select id from messaging.job where task = $1 and not urgent and due_at <= now()
                   order by due_at limit $4 - (select count(*) from urgent)
                   for update skip locked
               )
               update messaging.job
               set attempts = attempts + 1, lease = $2, due_at = now() + make_interval(secs => $3)
               where task = $1 and id in (select id from urgent union all select id from others)
               returning id, attempts, context as "context: sqlx::types::Json<TraceContext>""#,
            T::NAME,
            lease,
            self.lease().as_secs_f64(),
            i64::try_from(room).unwrap_or(1),
        )
        .fetch_all(&self.outbox.pool)
        .await?;
        if without("job-leases") {
            let free = sqlx::query("update messaging.job set due_at = now() where lease = $1").bind(lease);
            free.execute(&self.outbox.pool).await?;
        }
        if !rows.is_empty() {
            hit("worker.after_claim").await?;
        }
        let job =
            |id, attempts: i32, context| Job { id, attempt: u32::try_from(attempts).unwrap_or(1), lease, context };
        Ok(rows.into_iter().map(|row| job(row.id, row.attempts, row.context.0)).collect())
    }
}
