//! What happened to an order, entry by entry. Entries are written by `order.rs`, the first one, and `progress.rs`, and never changed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::saga::State;

/// Something that happened to an order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = TimelineEntry, example = json!({
    "seq": 2,
    "at": "2026-11-23T09:10:11.305Z",
    "event": "stock_reserved",
    "state": "reserved",
    "detail": "held until 2026-11-23T09:40:11Z",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
}))]
pub(crate) struct Entry {
    /// Counts from 1 without gaps. Also the `id` of the event in the stream, and the order's version after it.
    #[schema(minimum = 1)]
    pub(crate) seq: i64,
    pub(crate) at: DateTime<Utc>,
    /// What happened: `order_placed`, `stock_reserved`, `stock_rejected`, `stock_released`, `stock_committed`,
    /// `payment_authorized`, `payment_declined`, `payment_refunded`, `deadline_reached`, `cancellation_requested` or
    /// `customer_deleted`. There may be more one day.
    #[schema(pattern = "^[a-z_]+$")]
    pub(crate) event: String,
    /// The state that the order was in afterwards.
    pub(crate) state: State,
    /// More of it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// The trace in which it happened: look it up in the tracing backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{32}$")]
    pub(crate) trace_id: Option<String>,
}

impl Entry {
    /// The entries of an order after this one, oldest first; all of them after 0.
    pub(crate) async fn after(db: &mut PgConnection, order_id: Uuid, seq: i64) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select seq, at, event, state as "state: State", detail, trace_id
               from order_history where order_id = $1 and seq > $2 order by seq"#,
            order_id,
            seq
        )
        .fetch_all(db)
        .await
    }
}
