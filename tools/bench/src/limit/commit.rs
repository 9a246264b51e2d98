//! The same transaction without an event, by whoever does without the outbox: from a pool, as with it. (To give a connection back to a pool of
//! sqlx costs a round trip, here and there.)

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
