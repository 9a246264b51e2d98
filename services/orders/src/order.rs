//! Orders: the type, and the SQL that loads and stores it. What moves an order is decided in `saga.rs` and done in `progress.rs`.

use chrono::{DateTime, Utc};
use events::orders::v1::{
    CancellationReason, OrderCancelled, OrderConfirmed, OrderPaid, OrderPlaced, PaymentDue, order_confirmed::Item,
    order_placed,
};
use money::Money;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::saga::{self, Reason, State};

/// An order before it is stored.
#[derive(Clone, Debug)]
pub(crate) struct NewOrder {
    pub(crate) user_id: Uuid,
    /// 1 or more, of one currency.
    pub(crate) lines: Vec<Line>,
    pub(crate) total: Money,
    pub(crate) payment_method: String,
}

/// What was ordered, as it was named and priced at that moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) quantity: u16,
    /// What one costs, in the order's currency.
    pub(crate) price: i64,
}

/// A stored order.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) state: State,
    pub(crate) reason: Option<Reason>,
    pub(crate) lines: Json<Vec<Line>>,
    pub(crate) total: i64,
    pub(crate) currency: String,
    pub(crate) payment_method: String,
    pub(crate) placed_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    /// The number of the last entry of its history.
    pub(crate) version: i64,
}

/// Orders in one state that somebody waits for.
pub(crate) struct Open {
    pub(crate) state: State,
    pub(crate) count: i64,
    /// Since the oldest of them was placed.
    pub(crate) oldest_seconds: f64,
}

/// How many orders are not final, and since when: what to raise an alarm about.
pub(crate) async fn open(db: &mut PgConnection) -> Result<Vec<Open>, sqlx::Error> {
    sqlx::query_as!(
        Open,
        r#"select state as "state!: State", count(*) as "count!",
                  extract(epoch from max(now() - placed_at))::float8 as "oldest_seconds!"
           from orders where state in ('placed', 'reserved', 'paid')
           group by state"#
    )
    .fetch_all(db)
    .await
}

impl NewOrder {
    /// Stores the order, with the first entry of its history.
    pub(crate) async fn insert(
        self,
        db: &mut PgConnection,
        event: &str,
        trace_id: Option<String>,
    ) -> Result<Order, sqlx::Error> {
        let id = Uuid::now_v7();
        let state = saga::FIRST;
        let Self { user_id, lines, total: Money { minor_units: total, currency }, payment_method } = self;
        let placed_at = sqlx::query_scalar!(
            r#"with placed as (
                   insert into orders (id, user_id, state, payment_method, total, currency, placed_at, updated_at, version)
                   select $1, $2, $3, $4, $5, $6, now, now, 1 from clock_timestamp() as now
                   returning placed_at, version
               ), lines as (
                   insert into order_lines (order_id, position, sku, name, quantity, price)
                   select $1, position, sku, name, quantity, price
                   from unnest($7::text[], $8::text[], $9::integer[], $10::bigint[]) with ordinality
                        as line (sku, name, quantity, price, position)
               )
               insert into order_history (order_id, seq, at, event, state, trace_id)
               select $1, version, placed_at, $11, $3, $12 from placed
               returning at"#,
            id,
            user_id,
            state.name(),
            payment_method,
            total,
            currency,
            &lines.iter().map(|line| line.sku.clone()).collect::<Vec<_>>(),
            &lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>(),
            &lines.iter().map(|line| i32::from(line.quantity)).collect::<Vec<_>>(),
            &lines.iter().map(|line| line.price).collect::<Vec<_>>(),
            event,
            trace_id
        )
        .fetch_one(db)
        .await?;
        Ok(Order {
            id,
            user_id,
            state,
            reason: None,
            lines: Json(lines),
            total,
            currency,
            payment_method,
            placed_at,
            updated_at: placed_at,
            version: 1,
        })
    }
}

/// A query for the stored orders that a clause picks.
macro_rules! stored {
    ($which:literal, $id:expr) => {
        sqlx::query_as!(
            Order,
            r#"select id, user_id, state as "state: State", reason as "reason: Reason",
                      (select jsonb_agg(jsonb_build_object('sku', sku, 'name', name, 'quantity', quantity, 'price', price)
                                        order by position)
                       from order_lines where order_id = id) as "lines!: Json<Vec<Line>>",
                      total, currency, payment_method, placed_at, updated_at, version
               from orders "#
                + $which,
            $id
        )
    };
}

impl Order {
    /// The order with this id.
    pub(crate) async fn load(db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        stored!("where id = $1", id).fetch_optional(db).await
    }

    /// The order with this id, locked until the end of the transaction: of two that want to move it, the second sees what the
    /// first did. Only its lines are read as they were before that, and they never change.
    pub(crate) async fn lock(db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        stored!("where id = $1 for update", id).fetch_optional(db).await
    }

    /// The orders of a customer that are not final yet, in an order in which two who lock them cannot deadlock.
    pub(crate) async fn open_of(db: &mut PgConnection, user_id: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
        sqlx::query_scalar!(
            "select id from orders where user_id = $1 and state in ('placed', 'reserved', 'paid') order by id",
            user_id
        )
        .fetch_all(db)
        .await
    }

    /// What it costs.
    pub(crate) fn amount(&self) -> Money {
        Money { minor_units: self.total, currency: self.currency.clone() }
    }

    pub(crate) fn placed(&self) -> OrderPlaced {
        let line = |line: &Line| order_placed::Line { sku: line.sku.clone(), quantity: line.quantity.into() };
        OrderPlaced {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            lines: self.lines.iter().map(line).collect(),
        }
    }

    pub(crate) fn payment_due(&self) -> PaymentDue {
        PaymentDue {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            amount: Some((&self.amount()).into()),
            payment_method: self.payment_method.clone(),
        }
    }

    pub(crate) fn paid(&self) -> OrderPaid {
        OrderPaid { order_id: self.id.to_string() }
    }

    pub(crate) fn confirmed(&self) -> OrderConfirmed {
        let item = |line: &Line| Item {
            sku: line.sku.clone(),
            name: line.name.clone(),
            quantity: line.quantity.into(),
            price: Some((&Money { minor_units: line.price, currency: self.currency.clone() }).into()),
        };
        OrderConfirmed {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            items: self.lines.iter().map(item).collect(),
            total: Some((&self.amount()).into()),
        }
    }

    pub(crate) fn cancelled(&self) -> OrderCancelled {
        OrderCancelled {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            reason: self.reason.map_or(CancellationReason::Unspecified, reason).into(),
            total: Some((&self.amount()).into()),
        }
    }
}

fn reason(reason: Reason) -> CancellationReason {
    match reason {
        Reason::OutOfStock => CancellationReason::OutOfStock,
        Reason::UnknownProduct => CancellationReason::UnknownProduct,
        Reason::PaymentDeclined => CancellationReason::PaymentDeclined,
        Reason::CancelledByCustomer => CancellationReason::CancelledByCustomer,
        Reason::Expired => CancellationReason::Expired,
        Reason::CancelledByShop => CancellationReason::CancelledByShop,
    }
}
