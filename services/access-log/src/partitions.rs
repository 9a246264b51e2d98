//! A partition for each day: made ahead, and dropped when its day is past the retention.

use std::time::Duration;

use process::Process;
use sqlx::PgPool;

const PERIOD: Duration = Duration::from_secs(3600);
/// Days for which partitions are made ahead; the database may be away from this service for as long.
const AHEAD_DAYS: i32 = 7;

/// Has the process do it.
pub(crate) fn keep(process: &mut Process, retention_days: u16) -> anyhow::Result<()> {
    let pool = process.pool("housekeeping", 1)?;
    process.every("partitions of the access log are kept", PERIOD, move || {
        let pool = pool.clone();
        async move { maintain(&pool, retention_days).await }
    });
    Ok(())
}

async fn maintain(pool: &PgPool, retention_days: u16) -> Result<(), sqlx::Error> {
    sqlx::query!("select maintain_access_log($1, $2)", i32::from(retention_days), AHEAD_DAYS).execute(pool).await?;
    Ok(())
}
