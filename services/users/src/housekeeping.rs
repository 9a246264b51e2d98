//! What has to be done now and then: forget what has ended, and keep the signing keys young. Every replica does it; doing it twice changes nothing.

use std::time::Duration;

use sqlx::PgPool;

use crate::signing_key::{KeyError, SigningKeys};

/// How often.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Rows that one statement deletes at most, so that none runs for long.
const BATCH: i64 = 10_000;

/// One round.
pub async fn once(pool: &PgPool, keys: &SigningKeys) -> Result<(), KeyError> {
    keys.renew().await?;
    forget(pool).await?;
    Ok(())
}

/// Each statement again until there is no more of it. Each says twice what has ended: a row may be renewed while its lock is waited for, and
/// then only what stands outside of the subquery is looked at again.
async fn forget(pool: &PgPool) -> Result<(), sqlx::Error> {
    while sqlx::query!(
        "delete from mails where (address, kind) in
            (select address, kind from mails where requested_at < now() - interval '1 day' limit $1)
            and requested_at < now() - interval '1 day'",
        BATCH
    )
    .execute(pool)
    .await?
    .rows_affected()
        > 0
    {}
    // For a month, an old link says that it has expired; after that it is unknown.
    while sqlx::query!(
        "delete from one_time_tokens where token_hash in
            (select token_hash from one_time_tokens where expires_at < now() - interval '30 days' limit $1)",
        BATCH
    )
    .execute(pool)
    .await?
    .rows_affected()
        > 0
    {}
    while sqlx::query!(
        "delete from sessions where id in (select id from sessions where expires_at < now() limit $1) and expires_at < now()",
        BATCH
    )
    .execute(pool)
    .await?
    .rows_affected()
        > 0
    {}
    // The current token lives as long as its session; these are the ones that it replaced.
    while sqlx::query!(
        "delete from refresh_tokens where token_hash in (select token_hash from refresh_tokens where expires_at < now() limit $1)
            and expires_at < now()",
        BATCH
    )
    .execute(pool)
    .await?
    .rows_affected()
        > 0
    {}
    while sqlx::query!(
        "delete from throttles where (scope, subject) in (select scope, subject from throttles where expires_at < now() limit $1)
            and expires_at < now()",
        BATCH
    )
    .execute(pool)
    .await?
    .rows_affected()
        > 0
    {}
    sqlx::query!("delete from signing_keys where not_after < now() - interval '30 days'").execute(pool).await?;
    Ok(())
}
