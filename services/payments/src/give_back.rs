//! Giving back: the task that has the provider return whatever it took for a payment and take nothing more, and records what it said. It
//! serves refunds and cancellations alike, because only the provider knows whether there is something to return.
//!
//! It is never given up: it is tried again for as long as it takes, and how long that is already is a metric.

use std::sync::Arc;

use failpoints::hit;
use messaging::{HandlerError, Job, Outbox, OutboxTransaction, Outcome, RetryPolicy, Task, TaskError, Worker};
use sqlx::PgPool;
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    config::ProviderConfig,
    metrics,
    payment::Payment,
    provider::{self, Provider, ProviderError, Refund},
    settle::settle,
    state::Fact,
};

/// Names the work; see [`Task::NAME`].
pub(crate) const TASK: &str = "give_back_payment";

/// Gives back one payment; the job's id is the payment's.
pub(crate) struct GiveBack<P> {
    pub(crate) pool: PgPool,
    pub(crate) provider: Arc<P>,
}

/// What came of asking.
#[derive(Clone, Debug)]
pub(crate) enum GivenBack {
    /// Money had been taken, and went back.
    Returned,
    /// Nothing had been taken.
    NothingHeld,
    /// Nothing was asked: it is done already.
    Over,
}

/// The worker that gives back.
pub(crate) fn worker<P: Provider>(outbox: &Outbox, provider: Arc<P>, config: &ProviderConfig) -> Worker<GiveBack<P>> {
    Worker::new(outbox, GiveBack { pool: outbox.pool().clone(), provider })
        .concurrency(usize::from(config.payment_concurrency))
        .deadline(config.call_deadline())
        .retry(
            RetryPolicy::exponential(config.payment_retry_seconds)
                .max_delay(config.longest_wait())
                .max_attempts(u32::MAX),
        )
        .poll(config.poll())
}

impl<P: Provider> Task for GiveBack<P> {
    const NAME: &'static str = TASK;
    type Done = GivenBack;

    async fn perform(&self, job: &Job) -> Result<GivenBack, TaskError> {
        let mut db = self.pool.acquire().await.map_err(TaskError::database)?;
        let payment = Payment::load(&mut db, job.id).await.map_err(TaskError::database)?;
        drop(db);
        if !payment.is_some_and(|payment| payment.state.gives_back()) {
            return Ok(GivenBack::Over);
        }
        match self.ask(job.id).await {
            Ok(Refund { returned: Some(_) }) => Ok(GivenBack::Returned),
            Ok(Refund { returned: None }) => Ok(GivenBack::NothingHeld),
            Err(error @ ProviderError::Unavailable(_)) => Err(TaskError::unavailable(error)),
            // It will be taken, and goes back then.
            Err(ProviderError::Processing(wait)) => Err(TaskError::Later(wait)),
            // Also what a refund is never answered with: the only thing that must not happen is to stop asking.
            Err(error) => Err(TaskError::retry(error)),
        }
    }

    async fn record(
        &self,
        job: &Job,
        outcome: Outcome<GivenBack>,
        tx: &mut OutboxTransaction,
    ) -> Result<(), HandlerError> {
        let fact = match outcome {
            Outcome::Done(GivenBack::Returned) => Fact::MoneyBack,
            Outcome::Done(GivenBack::NothingHeld) => Fact::NothingHeld,
            Outcome::Done(GivenBack::Over) | Outcome::Postponed { .. } | Outcome::Retrying { .. } => return Ok(()),
            // With this error the job is not finished: its lease runs out, and it is done again.
            Outcome::Failed { error, .. } => return Err(HandlerError::retry(error)),
        };
        if let Some(mut payment) = Payment::lock(tx, job.id).await? {
            // A fact is never refused.
            let _: Result<(), _> = settle(&mut payment, fact, tx).await?;
        }
        Ok(())
    }
}

impl<P: Provider> GiveBack<P> {
    async fn ask(&self, key: Uuid) -> Result<Refund, ProviderError> {
        let span = provider::span("refund", key);
        let started = Instant::now();
        let asked = async {
            let refund = self.provider.refund(key).await?;
            hit("payments.after_refund").await.map_err(|lost| ProviderError::Unavailable(lost.into()))?;
            Ok(refund)
        };
        let refund = asked.instrument(span.clone()).await;
        provider::answered(&span, &refund);
        metrics::called("refund", &refund, started.elapsed());
        refund
    }
}
