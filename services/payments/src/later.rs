//! A job that did not fail and is to be done again at a given time: messaging knows only failures, which are logged as such and spend an
//! attempt. So the job that ends is followed by a new one, written into its table in the transaction that ends it.

use std::time::Duration;

use messaging::OutboxTransaction;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

/// The trace that a job belongs to, as messaging stored it.
pub(crate) type Context = Json<serde_json::Value>;

/// The context of a job in hand, to pass it on to the next one.
pub(crate) async fn context(pool: &PgPool, task: &str, id: Uuid) -> Result<Context, sqlx::Error> {
    let found = sqlx::query_scalar!(
        r#"select context as "context: Context" from messaging.job where task = $1 and id = $2"#,
        task,
        id
    )
    .fetch_optional(pool)
    .await?;
    // Gone only if the lease was lost; then nothing will be recorded either.
    Ok(found.unwrap_or_default())
}

/// Has the thing worked on again after a while, as a first attempt.
pub(crate) async fn enqueue(
    tx: &mut OutboxTransaction,
    task: &str,
    id: Uuid,
    wait: Duration,
    context: Context,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into messaging.job (task, id, context, due_at) values ($1, $2, $3, now() + make_interval(secs => $4))
         on conflict do nothing",
        task,
        id,
        context as _,
        wait.as_secs_f64()
    )
    .execute(&mut **tx)
    .await
    .map(drop)
}
