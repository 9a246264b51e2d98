//! Orders that were cancelled before their payment was due: what must not be charged when the request for it comes after all, however late:
//! a dead letter can be redriven after months. It knows nothing of payments.

use sqlx::PgConnection;
use uuid::Uuid;

/// Makes the two sides wait for each other: who asks for an order's money and who cancels the order look at different tables, and
/// without this lock, which is held to the commit, neither would see what the other is about to write. Events of one order
/// come one after the other, but redriven ones come beside them.
pub(crate) async fn alone_with(order_id: Uuid, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", order_id.to_string())
        .execute(db)
        .await
        .map(drop)
}

/// Remembers that the order is cancelled.
pub(crate) async fn remember(order_id: Uuid, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("insert into cancelled_orders (order_id) values ($1) on conflict do nothing", order_id)
        .execute(db)
        .await
        .map(drop)
}

/// Whether the order was cancelled before its payment was due.
pub(crate) async fn is_remembered(order_id: Uuid, db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let found = sqlx::query!("select from cancelled_orders where order_id = $1", order_id).fetch_optional(db).await?;
    Ok(found.is_some())
}
