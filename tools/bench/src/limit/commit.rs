//! The least commit: the same statements in a transaction, and no event.

use anyhow::Result;
use sqlx::{Acquire as _, PgPool};

use crate::load::{self, Business};

/// One transaction of the business.
pub(crate) async fn commit(pool: &PgPool, business: Business, key: &str) -> Result<()> {
    let mut conn = pool.acquire().await?;
    let mut tx = conn.begin().await?;
    load::transact(&mut tx, business, key).await?;
    tx.commit().await?;
    Ok(())
}
