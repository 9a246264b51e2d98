//! Who may order, as far as users announced it. It holds nothing personal, and is not asked who may see what: that is the token's.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::config::CustomerOptions;

/// What is known of an account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Customer {
    /// Whether its address was proven. A token may know better.
    pub(crate) verified: bool,
    /// Whether it was deleted. A token that was made before is still valid for a while.
    pub(crate) deleted: bool,
    /// Orders under way; whatever is beyond what was asked about is not counted. Two that are placed at once may not see each other.
    pub(crate) open_orders: i64,
    /// Seconds until another order may be placed, if as many were placed as may be within an hour; negative when that is over.
    pub(crate) pause: Option<f64>,
}

impl Customer {
    /// The customer who orders, held until the end of the transaction: whoever deletes the account waits for the order, and then
    /// sees it. No more orders are counted than are allowed.
    pub(crate) async fn ordering(
        db: &mut PgConnection,
        user_id: Uuid,
        limits: CustomerOptions,
    ) -> Result<Self, sqlx::Error> {
        if let Some(known) = Self::held(db, user_id, limits).await? {
            return Ok(known);
        }
        // There must be a row to hold.
        sqlx::query!("insert into customers (user_id) values ($1) on conflict (user_id) do nothing", user_id)
            .execute(&mut *db)
            .await?;
        Self::held(db, user_id, limits).await?.ok_or(sqlx::Error::RowNotFound)
    }

    async fn held(db: &mut PgConnection, user_id: Uuid, limits: CustomerOptions) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select verified_at is not null as "verified!", deleted_at is not null as "deleted!",
                      (select count(*) from (
                           select from orders
                           where orders.user_id = customers.user_id and state in ('placed', 'reserved', 'paid') limit $2
                       ) open) as "open_orders!",
                      (select extract(epoch from placed_at + interval '1 hour' - now())::float8 from orders
                       where orders.user_id = customers.user_id
                       order by placed_at desc, id desc offset $3 limit 1) as pause
               from customers where user_id = $1 for share"#,
            user_id,
            i64::from(limits.max_open_orders_per_customer),
            // The oldest of as many as are allowed.
            i64::from(limits.max_orders_per_customer_and_hour.saturating_sub(1)),
        )
        .fetch_optional(db)
        .await
    }

    /// Notes that an account's address is proven.
    pub(crate) async fn verified(db: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into customers (user_id, verified_at) values ($1, now())
             on conflict (user_id) do update set verified_at = coalesce(customers.verified_at, excluded.verified_at)",
            user_id
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Notes that an account is gone: it orders nothing any more.
    pub(crate) async fn deleted(db: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into customers (user_id, deleted_at) values ($1, now())
             on conflict (user_id) do update set deleted_at = coalesce(customers.deleted_at, excluded.deleted_at)",
            user_id
        )
        .execute(db)
        .await
        .map(drop)
    }
}
