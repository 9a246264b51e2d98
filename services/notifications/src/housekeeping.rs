//! What the clock does: it ends what ran out, and deletes what nobody needs any more. Every replica does it; the second one
//! finds nothing.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use process::Process;
use sqlx::PgPool;

use crate::{metrics, notification::Notification, state::State};

/// How often letters and tokens that ran out are looked for.
const EXPIRE_PERIOD: Duration = Duration::from_secs(30);
/// How often old notifications are looked for.
const DELETE_PERIOD: Duration = Duration::from_secs(600);
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
    for template in Notification::expire(&mut *pool.acquire().await?).await? {
        metrics::became(template, State::Expired);
    }
    Ok(())
}

async fn delete_over(pool: PgPool, retention_days: u16) -> Result<(), sqlx::Error> {
    let before = Utc::now() - TimeDelta::days(retention_days.into());
    let mut deleted = 0;
    loop {
        let batch = Notification::delete_over(&mut *pool.acquire().await?, before, DELETE_BATCH.into()).await?;
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
