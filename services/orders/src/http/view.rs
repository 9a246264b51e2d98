//! What an order looks like from outside.

use chrono::{DateTime, Utc};
use money::Money;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    order::{Line, Order},
    saga::{Reason, State},
};

/// An order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order, example = json!({
    "id": "0190163d-8694-739b-aea5-966c26f8ad91",
    "user_id": "0190163c-1f5e-7d0a-8c7e-0f6f1c7b1a11",
    "state": "placed",
    "lines": [{ "sku": "MUG-01", "name": "Mug", "quantity": 2, "price": { "minor_units": 1999, "currency": "EUR" } }],
    "total": { "minor_units": 3998, "currency": "EUR" },
    "payment_method": "pm_ok",
    "placed_at": "2026-11-23T09:10:11.120Z",
    "updated_at": "2026-11-23T09:10:11.120Z",
    "version": 1
}))]
pub(super) struct OrderView {
    id: Uuid,
    /// Whose order it is.
    user_id: Uuid,
    state: State,
    /// Why it is cancelled; only there if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[schema(min_items = 1, max_items = 50)]
    lines: Vec<LineView>,
    /// The sum of the lines.
    total: Money,
    /// The payment provider's name for the means of payment.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    payment_method: String,
    placed_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Grows with everything that happens to it; its ETag.
    #[schema(minimum = 1)]
    version: i64,
}

/// What was ordered, as it was named and priced at that moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderLine)]
pub(super) struct LineView {
    #[schema(pattern = "^[A-Z0-9][A-Z0-9-]{0,31}$")]
    sku: String,
    name: String,
    #[schema(minimum = 1, maximum = 1000)]
    quantity: u16,
    /// What one costs.
    price: Money,
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        let total = order.amount();
        let line = |line: Line| LineView {
            sku: line.sku,
            name: line.name,
            quantity: line.quantity,
            price: Money { minor_units: line.price, currency: order.currency.clone() },
        };
        Self {
            id: order.id,
            user_id: order.user_id,
            state: order.state,
            reason: order.reason,
            lines: order.lines.0.into_iter().map(line).collect(),
            total,
            payment_method: order.payment_method,
            placed_at: order.placed_at,
            updated_at: order.updated_at,
            version: order.version,
        }
    }
}
