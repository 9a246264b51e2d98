//! Payments: the type, and the SQL that loads and stores it. What a payment may become is decided in `state.rs`; nobody is asked for
//! money here.

use chrono::{DateTime, Utc};
use money::Money;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::state::{DeclineReason, State};

/// The money for one order.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) minor_units: i64,
    pub(crate) currency: String,
    pub(crate) payment_method: String,
    pub(crate) state: State,
    pub(crate) decline_reason: Option<DeclineReason>,
    pub(crate) refund_reason: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

/// A payment that is due, before it is stored.
pub(crate) struct Due {
    pub(crate) order_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) amount: Money,
    pub(crate) payment_method: String,
    pub(crate) trace_id: Option<String>,
}

impl Due {
    /// The id of the payment for an order: always the same one, so that the provider knows it again whatever happened here.
    pub(crate) fn id(&self) -> Uuid {
        Uuid::new_v5(&self.order_id, b"payment")
    }

    /// Stores it as pending. `false` if the order's payment is there already.
    pub(crate) async fn insert(self, db: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let inserted = sqlx::query!(
            "insert into payments (id, order_id, user_id, minor_units, currency, payment_method, trace_id)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (order_id) do nothing",
            self.id(),
            self.order_id,
            self.user_id,
            self.amount.minor_units,
            self.amount.currency,
            self.payment_method,
            self.trace_id
        )
        .execute(db)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }
}

/// A query for the stored payments that a clause picks.
macro_rules! stored {
    ($which:literal, $id:expr) => {
        sqlx::query_as!(
            Payment,
            r#"select id, order_id, user_id, minor_units, currency, payment_method, state as "state: State",
                      decline_reason as "decline_reason: DeclineReason", refund_reason, trace_id, created_at, updated_at, version
               from payments "#
                + $which,
            $id
        )
    };
}

impl Payment {
    /// What is to be paid.
    pub(crate) fn amount(&self) -> Money {
        Money { minor_units: self.minor_units, currency: self.currency.clone() }
    }

    /// The payment with this id.
    pub(crate) async fn load(db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        stored!("where id = $1", id).fetch_optional(db).await
    }

    /// The payment for this order.
    pub(crate) async fn of_order(db: &mut PgConnection, order_id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        stored!("where order_id = $1", order_id).fetch_optional(db).await
    }

    /// As [`Payment::load`], locked: what happens to one payment happens one after the other, whoever it comes from.
    pub(crate) async fn lock(db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        stored!("where id = $1 for update", id).fetch_optional(db).await
    }

    /// As [`Payment::of_order`], locked, for the same reason.
    pub(crate) async fn lock_of_order(db: &mut PgConnection, order_id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        stored!("where order_id = $1 for update", order_id).fetch_optional(db).await
    }

    /// Stores what may change. The payment must be locked.
    pub(crate) async fn save(&mut self, db: &mut PgConnection) -> Result<(), sqlx::Error> {
        let saved = sqlx::query!(
            "update payments
             set state = $2, decline_reason = $3, updated_at = now(), version = version + 1
             where id = $1
             returning updated_at, version",
            self.id,
            self.state.name(),
            self.decline_reason.map(DeclineReason::name)
        )
        .fetch_one(db)
        .await?;
        (self.updated_at, self.version) = (saved.updated_at, saved.version);
        Ok(())
    }

    /// Writes down who had the money sent back, and why.
    pub(crate) async fn refund_asked(
        &mut self,
        db: &mut PgConnection,
        operator: Uuid,
        reason: Option<String>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update payments set refunded_by = $2, refund_reason = $3 where id = $1",
            self.id,
            operator,
            reason
        )
        .execute(db)
        .await?;
        self.refund_reason = reason;
        Ok(())
    }
}

/// Payments in one state that somebody waits for.
pub(crate) struct Waiting {
    pub(crate) state: State,
    pub(crate) count: i64,
    /// Age of the oldest, since its last change.
    pub(crate) oldest_seconds: f64,
}

/// How many payments wait, and since when: what to raise an alarm about.
pub(crate) async fn waiting(db: &mut PgConnection) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"select state as "state!: State", count(*) as "count!",
                  extract(epoch from max(now() - updated_at))::float8 as "oldest_seconds!"
           from payments where state in ('pending', 'giving_up', 'cancelling', 'refunding')
           group by state"#
    )
    .fetch_all(db)
    .await
}
