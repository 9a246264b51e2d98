//! What the clock does: it ends what ran out, and deletes what nobody needs any more. Every replica does it; the second one
//! finds nothing.

use std::time::Duration;

use process::Process;
use sqlx::PgPool;

use crate::{metrics, notification::Notification, state::State};

/// How often letters and tokens that ran out are looked for.
const EXPIRE_PERIOD: Duration = Duration::from_secs(30);
/// How often old notifications are looked for.
const DELETE_PERIOD: Duration = Duration::from_secs(600);
/// How many are ended at once. After a long outage of the mail server there are many, and what takes too long is rolled back.
const EXPIRE_BATCH: u16 = 1_000;
/// How many are deleted at once: a large transaction would hold up the small ones.
const DELETE_BATCH: u16 = 500;

/// Adds it to a process.
pub(crate) fn keep(process: &mut Process, retention_days: u16) -> anyhow::Result<()> {
    let pool = process.pool("housekeeping", 2)?;
    let expiring = pool.clone();
    process.every("what ran out is ended", EXPIRE_PERIOD, move || expire(expiring.clone()));
    process.every("old notifications are deleted", DELETE_PERIOD, move || delete_over(pool.clone(), retention_days));
    Ok(())
}

async fn expire(pool: PgPool) -> Result<(), sqlx::Error> {
    loop {
        let ended = Notification::expire(&mut *pool.acquire().await?, EXPIRE_BATCH.into()).await?;
        for (template, _) in ended.iter().filter(|(_, state)| *state == State::Expired) {
            metrics::became(*template, State::Expired);
        }
        if ended.len() < usize::from(EXPIRE_BATCH) {
            return Ok(());
        }
    }
}

async fn delete_over(pool: PgPool, retention_days: u16) -> Result<(), sqlx::Error> {
    let mut deleted = 0;
    loop {
        let batch =
            Notification::delete_over(&mut *pool.acquire().await?, retention_days.into(), DELETE_BATCH.into()).await?;
        deleted += batch;
        if batch < DELETE_BATCH.into() {
            break;
        }
    }
    if deleted > 0 {
        tracing::info!(deleted, retention_days, "old notifications were deleted");
    }
    Ok(())
}
