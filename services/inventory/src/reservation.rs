//! Reservations: what became of each order here, and the SQL that loads and stores it. It moves no stock.

mod state;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) use self::state::{Event, Reason, State, Step, step};
use crate::{
    sku::Sku,
    stock::{Cause, Lines},
};

/// A stored reservation.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub(crate) order_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) state: State,
    pub(crate) reason: Option<Reason>,
    pub(crate) missing_sku: Option<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) trace_id: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

/// What decides about an event, read under the row's lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// By the database's clock, which also rings the alarm.
    pub(crate) is_over: bool,
}

impl Reservation {
    /// How an order stands, for as long as the transaction lasts: of a payment and the end of the waiting time, the second one sees
    /// what the first one did. `None` if it was never heard of; should another transaction hear of it at this moment, one of the two
    /// fails when it stores the row, and is tried again.
    pub(crate) async fn lock(db: &mut PgConnection, order_id: Uuid) -> Result<Option<Standing>, sqlx::Error> {
        sqlx::query_as!(
            Standing,
            r#"select state as "state: State", expires_at, coalesce(expires_at <= clock_timestamp(), false) as "is_over!"
               from reservations where order_id = $1 for update"#,
            order_id
        )
        .fetch_optional(db)
        .await
    }

    /// Notes that an order's goods are held. Returns until when, by the database's clock.
    pub(crate) async fn hold(
        db: &mut PgConnection,
        cause: Cause<'_>,
        user_id: Uuid,
        lines: &Lines,
        hold_for: Duration,
    ) -> Result<DateTime<Utc>, sqlx::Error> {
        let (skus, quantities) = lines.columns();
        sqlx::query_scalar!(
            r#"with held as (
                   insert into reservations (order_id, user_id, state, expires_at, trace_id)
                   values ($1, $2, 'held', clock_timestamp() + make_interval(secs => $3), $4)
                   returning expires_at
               ), lines as (
                   insert into reservation_lines (order_id, sku, quantity)
                   select $1, sku, quantity from unnest($5::text[], $6::bigint[]) as line (sku, quantity)
               )
               select expires_at as "expires_at!" from held"#,
            cause.order_id,
            user_id,
            hold_for.as_secs_f64(),
            cause.trace_id,
            &skus,
            &quantities
        )
        .fetch_one(db)
        .await
    }

    /// Notes that an order got nothing, and why.
    pub(crate) async fn reject(
        db: &mut PgConnection,
        cause: Cause<'_>,
        user_id: Uuid,
        lines: &Lines,
        (missing, reason): (&Sku, Reason),
    ) -> Result<(), sqlx::Error> {
        let (skus, quantities) = lines.columns();
        sqlx::query!(
            "with rejected as (
                 insert into reservations (order_id, user_id, state, reason, missing_sku, trace_id)
                 values ($1, $2, 'rejected', $3, $4, $5)
             )
             insert into reservation_lines (order_id, sku, quantity)
             select $1, sku, quantity from unnest($6::text[], $7::bigint[]) as line (sku, quantity)",
            cause.order_id,
            user_id,
            reason.name(),
            missing.as_str(),
            cause.trace_id,
            &skus,
            &quantities
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Notes that an order was cancelled that was never heard of.
    pub(crate) async fn remember_cancelled(
        db: &mut PgConnection,
        cause: Cause<'_>,
        user_id: Uuid,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into reservations (order_id, user_id, state, trace_id) values ($1, $2, 'cancelled', $3)",
            cause.order_id,
            user_id,
            cause.trace_id
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Notes what became of a reservation that is locked.
    pub(crate) async fn becomes(
        db: &mut PgConnection,
        order_id: Uuid,
        state: State,
        reason: Option<Reason>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update reservations set state = $2, reason = $3, version = version + 1, updated_at = clock_timestamp()
             where order_id = $1",
            order_id,
            state.name(),
            reason.map(Reason::name)
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// A reservation as it is.
    pub(crate) async fn load(db: &mut PgConnection, order_id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select order_id, user_id, state as "state: State", reason as "reason: Reason", missing_sku, expires_at,
                      trace_id, created_at, updated_at, version
               from reservations where order_id = $1"#,
            order_id
        )
        .fetch_optional(db)
        .await
    }

    /// What the order wanted.
    pub(crate) async fn lines(db: &mut PgConnection, order_id: Uuid) -> Result<Lines, sqlx::Error> {
        let lines = sqlx::query!("select sku, quantity from reservation_lines where order_id = $1", order_id);
        let lines = lines.fetch_all(db).await?.into_iter().map(|line| {
            let sku = Sku::parse(line.sku).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((sku, line.quantity))
        });
        Ok(Lines::stored(lines.collect::<Result<Vec<_>, sqlx::Error>>()?))
    }
}
