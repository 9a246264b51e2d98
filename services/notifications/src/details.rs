//! What letters about orders and stock tell. It is no secret, stored as long as the notification, and holds neither names of
//! people nor addresses.

use events::{
    inventory::v1::StockLow,
    orders::v1::{CancellationReason, OrderCancelled, OrderConfirmed, order_confirmed},
    payments::v1::PaymentRefunded,
};
use money::{Money, NoAmount};
use serde::{Deserialize, Serialize};

use crate::words::one_line;

/// What one letter tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", rename_all = "snake_case")]
pub(crate) enum Details {
    OrderConfirmed { order_id: String, items: Vec<Item>, total: Money },
    OrderCancelled { order_id: String, reason: Reason, total: Money },
    PaymentRefunded { order_id: String, amount: Money },
    StockLow { sku: String, name: String, available: i64, threshold: i64 },
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) quantity: u32,
    /// What one costs.
    pub(crate) price: Money,
    /// What all of them cost.
    pub(crate) amount: Money,
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    OutOfStock,
    UnknownProduct,
    PaymentDeclined,
    CancelledByCustomer,
    Expired,
    CancelledByShop,
    /// None was given, or one that this version does not know.
    Unknown,
}

/// Why nothing can be told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untellable {
    /// One of its amounts is none.
    #[error(transparent)]
    Amount(#[from] NoAmount),
    /// One of its lines costs more than there are numbers.
    #[error("quantity times price is too large")]
    TooLarge,
}

impl TryFrom<OrderConfirmed> for Details {
    type Error = Untellable;

    fn try_from(event: OrderConfirmed) -> Result<Self, Untellable> {
        let items = event.items.into_iter().map(Item::try_from).collect::<Result<_, _>>()?;
        Ok(Self::OrderConfirmed { order_id: one_line(&event.order_id), items, total: Money::announced(event.total)? })
    }
}

impl TryFrom<order_confirmed::Item> for Item {
    type Error = Untellable;

    fn try_from(item: order_confirmed::Item) -> Result<Self, Untellable> {
        let price = Money::announced(item.price)?;
        let amount = price.times(item.quantity).ok_or(Untellable::TooLarge)?;
        Ok(Self { sku: one_line(&item.sku), name: one_line(&item.name), quantity: item.quantity, price, amount })
    }
}

impl TryFrom<OrderCancelled> for Details {
    type Error = Untellable;

    fn try_from(event: OrderCancelled) -> Result<Self, Untellable> {
        let reason = event.reason().into();
        Ok(Self::OrderCancelled { order_id: one_line(&event.order_id), reason, total: Money::announced(event.total)? })
    }
}

impl From<CancellationReason> for Reason {
    fn from(reason: CancellationReason) -> Self {
        match reason {
            // Also what prost makes of a number that it does not know.
            CancellationReason::Unspecified => Self::Unknown,
            CancellationReason::OutOfStock => Self::OutOfStock,
            CancellationReason::UnknownProduct => Self::UnknownProduct,
            CancellationReason::PaymentDeclined => Self::PaymentDeclined,
            CancellationReason::CancelledByCustomer => Self::CancelledByCustomer,
            CancellationReason::Expired => Self::Expired,
            CancellationReason::CancelledByShop => Self::CancelledByShop,
        }
    }
}

impl TryFrom<PaymentRefunded> for Details {
    type Error = Untellable;

    fn try_from(event: PaymentRefunded) -> Result<Self, Untellable> {
        Ok(Self::PaymentRefunded { order_id: one_line(&event.order_id), amount: Money::announced(event.amount)? })
    }
}

impl From<StockLow> for Details {
    fn from(event: StockLow) -> Self {
        let StockLow { sku, name, available, threshold } = event;
        Self::StockLow { sku: one_line(&sku), name: one_line(&name), available, threshold }
    }
}

#[cfg(test)]
mod tests {
    use events::{
        orders::v1::{OrderConfirmed, order_confirmed::Item},
        postrider::money::v1::Money,
    };
    use money::NoAmount;

    use super::{Details, Untellable};

    fn confirmed(price: Option<Money>, quantity: u32, total: Option<Money>) -> Result<Details, Untellable> {
        let item = Item { sku: "MUG-01".into(), name: "Mug".into(), quantity, price };
        OrderConfirmed { order_id: "o".into(), user_id: "u".into(), items: vec![item], total }.try_into()
    }

    #[test]
    fn what_has_no_amount_is_refused_and_not_told_as_nothing() {
        let money = |minor_units| Some(Money { minor_units, currency: "EUR".into() });
        assert!(confirmed(money(1), 1, money(1)).is_ok());
        for missing in [confirmed(None, 1, money(1)), confirmed(money(1), 1, None)] {
            assert_eq!(missing, Err(Untellable::Amount(NoAmount::Missing)));
        }
        assert_eq!(confirmed(money(i64::MAX), 2, money(1)), Err(Untellable::TooLarge));
    }
}
