//! Charging: the task that asks the provider for the money, outside of any transaction, and records what it said. It gives nothing back.
//!
//! An attempt is spent only by a failure of this one payment. A provider that is down pauses the worker, and one that needs time is
//! asked again when it said. A payment that fails again and again is tried for more than a day (unless its order is cancelled first,
//! which is what happens in practice); then it is given up: the provider is told to forget it, and only its answer makes it declined.

use std::sync::Arc;

use failpoints::{hit, without};
use messaging::{HandlerError, Job, Outbox, OutboxTransaction, Outcome, RetryPolicy, Task, TaskError, Worker};
use sqlx::PgPool;
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    config::ProviderConfig,
    metrics,
    payment::Payment,
    provider::{self, Charge, Provider, ProviderError},
    settle::settle,
    state::{DeclineReason, Fact, State},
};

/// Names the work; see [`Task::NAME`].
pub(crate) const TASK: &str = "charge_payment";
/// Tries of one payment before it is given up. The waits between them grow to 32 times the first, so with 1 s that is after 26 hours.
const MAX_ATTEMPTS: u32 = 3_000;

/// Charges one payment; the job's id is the payment's.
pub(crate) struct ChargePayment<P> {
    pub(crate) pool: PgPool,
    pub(crate) provider: Arc<P>,
}

/// What came of asking.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// The money is taken.
    Charged,
    /// It will never be.
    Declined(DeclineReason),
    /// The provider takes nothing under this key any more.
    Voided,
    /// Nothing was asked: nobody waits for it any more.
    Over,
}

/// The worker that charges.
pub(crate) fn worker<P: Provider>(
    outbox: &Outbox,
    provider: Arc<P>,
    config: &ProviderConfig,
) -> Worker<ChargePayment<P>> {
    Worker::new(outbox, ChargePayment { pool: outbox.pool().clone(), provider })
        .concurrency(usize::from(config.payment_concurrency))
        .deadline(config.call_deadline())
        .retry(
            RetryPolicy::exponential(config.payment_retry_seconds)
                .max_delay(config.longest_wait())
                .max_attempts(MAX_ATTEMPTS),
        )
        .poll(config.poll())
}

impl<P: Provider> Task for ChargePayment<P> {
    const NAME: &'static str = TASK;
    type Done = Asked;

    async fn perform(&self, job: &Job) -> Result<Asked, TaskError> {
        let mut db = self.pool.acquire().await.map_err(TaskError::database)?;
        let payment = Payment::load(&mut db, job.id).await.map_err(TaskError::database)?;
        // The provider takes as long as it likes; the connection to our database does not wait for it.
        drop(db);
        let Some(payment) = payment.filter(|payment| payment.state == State::Pending) else {
            return Ok(Asked::Over);
        };
        match self.ask(&payment).await {
            Ok(Charge) => Ok(Asked::Charged),
            Err(ProviderError::Declined(reason)) => Ok(Asked::Declined(reason)),
            Err(ProviderError::Voided) => Ok(Asked::Voided),
            Err(ProviderError::Processing(wait)) => Err(TaskError::Later(wait)),
            Err(error @ ProviderError::Transient(_)) => Err(TaskError::retry(error)),
            Err(error @ ProviderError::Unavailable(_)) => Err(TaskError::unavailable(error)),
            Err(error @ ProviderError::Contradiction) => Err(TaskError::fail(error)),
        }
    }

    async fn record(&self, job: &Job, outcome: Outcome<Asked>, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let fact = match outcome {
            Outcome::Done(Asked::Charged) => Fact::Charged,
            Outcome::Done(Asked::Declined(reason)) => Fact::Declined(reason),
            // Voided by us, and then this changes nothing. Else, in a database that was restored from a backup, it must end.
            Outcome::Done(Asked::Voided) | Outcome::Failed { .. } => Fact::GaveUp,
            Outcome::Done(Asked::Over) | Outcome::Postponed { .. } | Outcome::Retrying { .. } => return Ok(()),
        };
        if let Some(mut payment) = Payment::lock(tx, job.id).await? {
            // A fact is never refused.
            let _: Result<(), _> = settle(&mut payment, fact, tx).await?;
        }
        Ok(())
    }
}

impl<P: Provider> ChargePayment<P> {
    async fn ask(&self, payment: &Payment) -> Result<Charge, ProviderError> {
        let span = provider::span("charge", payment.id);
        let started = Instant::now();
        let amount = payment.amount();
        let key = if without("provider-keys") { Uuid::new_v4() } else { payment.id };
        let asked = async {
            let charge = self.provider.charge(key, &amount, &payment.payment_method).await?;
            hit("payments.after_charge").await.map_err(|lost| ProviderError::Unavailable(lost.into()))?;
            Ok(charge)
        };
        let charge = asked.instrument(span.clone()).await;
        provider::answered(&span, &charge);
        metrics::called("charge", &charge, started.elapsed());
        charge
    }
}
