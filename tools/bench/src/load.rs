//! The business: the statements that both sides run, and callers that have them run for a while. Whether there is an event about it, the
//! caller decides.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use sqlx::PgConnection;
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{ours::thing, scene::Scene};

/// How much is done in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Business {
    /// One row.
    Row,
    /// What `POST /orders` of the shop does, statement by statement: the key of the request, customer, products, order with two lines and its
    /// history, answer. The event comes with a deadline.
    Order,
}

/// The statements of the business, in a transaction that the caller has begun and will commit.
pub(crate) async fn transact(conn: &mut PgConnection, business: Business, key: &str) -> Result<(), sqlx::Error> {
    match business {
        Business::Row => thing(conn, key, 1).await,
        Business::Order => order(conn, key).await,
    }
}

async fn order(conn: &mut PgConnection, key: &str) -> Result<(), sqlx::Error> {
    let (order, user, sku) = (Uuid::now_v7(), customer(key), ["SKU-7", "SKU-8"]);
    sqlx::query("select pg_try_advisory_xact_lock(hashtextextended($1, 0))").bind(key).execute(&mut *conn).await?;
    sqlx::query("select fingerprint, status, headers, body from answers where owner = $1 and key = $2")
        .bind(user)
        .bind(key)
        .fetch_optional(&mut *conn)
        .await?;
    sqlx::query(
        "select verified_at is not null, deleted_at is not null,
                (select count(*) from (
                     select from orders
                     where orders.user_id = customers.user_id and state in ('placed', 'reserved', 'paid') limit 50
                 ) open),
                (select extract(epoch from placed_at + interval '1 hour' - now())::float8 from orders
                 where orders.user_id = customers.user_id
                 order by placed_at desc, id desc offset 99 limit 1)
         from customers where user_id = $1 for share",
    )
    .bind(user)
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query("select sku, name, price, currency from products where sku = any($1)")
        .bind(&sku[..])
        .fetch_all(&mut *conn)
        .await?;
    sqlx::query(
        "with placed as (
             insert into orders (id, user_id, state, payment_method, total, currency, placed_at, updated_at, version)
             select $1, $2, 'placed', 'pm_ok', 315, 'EUR', now, now, 1 from clock_timestamp() as now
             returning placed_at, version
         ), lines as (
             insert into order_lines (order_id, position, sku, name, quantity, price)
             select $1, position, sku, 'Product', 1, 107 from unnest($3::text[]) with ordinality as line (sku, position)
         )
         insert into order_history (order_id, seq, at, event, state)
         select $1, version, placed_at, 'order_placed', 'placed' from placed
         returning at",
    )
    .bind(order)
    .bind(user)
    .bind(&sku[..])
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query(
        "insert into answers (owner, key, fingerprint, status, headers, body) values ($1, $2, $3, 202, $4, $5)",
    )
    .bind(user)
    .bind(key)
    .bind(&[7_u8; 32][..])
    .bind(serde_json::json!([["etag", "\"1\""]]))
    .bind(vec![b'x'; 400])
    .execute(conn)
    .await?;
    Ok(())
}

/// One of those that `scene.sql` makes: always the same of the same order.
fn customer(key: &str) -> Uuid {
    const CUSTOMERS: u64 = 4_096;
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    Uuid::from_u128((hasher.finish() % CUSTOMERS).into())
}

/// So many callers, each with one transaction after the other, for so long. How many were committed, and in how many seconds.
pub(crate) async fn callers<F>(
    concurrency: usize,
    time: Duration,
    commit: impl Fn(String) -> F + Clone + Send + 'static,
) -> Result<(u64, f64)>
where
    F: Future<Output = Result<()>> + Send,
{
    let run = Uuid::now_v7().simple().to_string();
    let (next, mut callers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    let begin = Instant::now();
    for _ in 0..concurrency {
        let (next, commit, run) = (Arc::clone(&next), commit.clone(), run.clone());
        callers.spawn(async move {
            let mut committed = 0;
            while begin.elapsed() < time {
                commit(format!("{run}-{}", next.fetch_add(1, Ordering::Relaxed))).await?;
                committed += 1;
            }
            anyhow::Ok(committed)
        });
    }
    let mut committed = 0;
    while let Some(caller) = callers.join_next().await {
        committed += caller.context("a caller panicked")??;
    }
    Ok((committed, begin.elapsed().as_secs_f64()))
}

/// Waits until so many rows were written by handlers.
pub(crate) async fn until_things(scene: &Scene, count: usize) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(900);
    let deadline = Instant::now() + PATIENCE;
    // The last number is cheap to find, but what was rolled back leaves gaps: counted is only what is near.
    while i64::try_from(count)? > scene.count("select coalesce(max(n), 0) from thing").await?
        || i64::try_from(count)? > scene.count("select count(*) from thing").await?
    {
        anyhow::ensure!(Instant::now() < deadline, "{count} rows were not written within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
