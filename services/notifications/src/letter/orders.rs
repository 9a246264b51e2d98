//! Letters about orders, money and stock.

use money::Money;

use super::{Letter, Occasion, Row, Table, greeting, moment};
use crate::details::{Details, Item, Reason};

impl Letter {
    /// The letter that tells this.
    pub(super) fn about(details: &Details, occasion: &Occasion<'_>) -> Self {
        match details {
            Details::OrderConfirmed { order_id, items, total } => {
                Self::order_confirmed(occasion, order_id, items, total)
            }
            Details::OrderCancelled { order_id, reason, total } => {
                Self::order_cancelled(occasion, order_id, *reason, total)
            }
            Details::PaymentRefunded { order_id, amount } => Self::payment_refunded(occasion, order_id, amount),
            Details::StockLow { sku, name, available, threshold } => {
                Self::stock_low(occasion, sku, name, *available, *threshold)
            }
        }
    }

    fn order_confirmed(occasion: &Occasion<'_>, order_id: &str, items: &[Item], total: &Money) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Your order at {shop} is confirmed"),
            heading: "Your order is confirmed".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec!["Thank you for your order! It is paid, and everything in it is yours:".into()],
            table: Some(table(items, total)),
            action: None,
            after: vec![
                "There is nothing else that you have to do.".into(),
                format!(
                    "Your order has the number {order_id}. Keep this mail as your receipt, and name the number whenever \
                     you have a question about the order."
                ),
            ],
            shop: shop.into(),
            why: why(shop),
        }
    }

    fn order_cancelled(occasion: &Occasion<'_>, order_id: &str, reason: Reason, total: &Money) -> Self {
        let shop = occasion.shop;
        let (because, advice) = words(reason);
        Self {
            subject: format!("Your order at {shop} was cancelled"),
            heading: "Your order was cancelled".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![
                format!("Your order over {total} was cancelled on {}.", moment(occasion.occurred_at)),
                because.into(),
                advice.into(),
                "You owe us nothing. If money had already been taken for the order, it goes back the way it came, and \
                 we write to you again as soon as it is on its way."
                    .into(),
            ],
            table: None,
            action: None,
            after: vec![format!(
                "The order had the number {order_id}. Name it whenever you have a question about the order."
            )],
            shop: shop.into(),
            why: why(shop),
        }
    }

    fn payment_refunded(occasion: &Occasion<'_>, order_id: &str, amount: &Money) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Your money from {shop} is on its way back"),
            heading: "Your money is on its way back".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![
                format!(
                    "On {}, we returned {amount} to you. It goes back the way it came: to the card or the account that \
                     you paid with.",
                    moment(occasion.occurred_at)
                ),
                "There is nothing that you have to do. Banks take a few days until you see it. If it has not arrived \
                 after two weeks, ask your bank first, and then us."
                    .into(),
            ],
            table: None,
            action: None,
            after: vec![format!("You had paid it for the order with the number {order_id}.")],
            shop: shop.into(),
            why: why(shop),
        }
    }

    fn stock_low(occasion: &Occasion<'_>, sku: &str, name: &str, available: i64, threshold: i64) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Little left at {shop}: {name} ({sku})"),
            heading: format!("There is little left of {name}"),
            greeting: greeting(occasion.name),
            paragraphs: vec![
                format!(
                    "On {}, the stock of {name} ({sku}) fell to {available}. You are told when {threshold} or fewer are \
                     left.",
                    moment(occasion.occurred_at)
                ),
                format!(
                    "Order more of it. When the goods are there, book them in with POST /products/{sku}/restocks at the \
                     inventory service."
                ),
            ],
            table: None,
            action: None,
            after: vec![],
            shop: shop.into(),
            why: format!("You receive this mail because this address looks after the stock of {shop}."),
        }
    }
}

/// What happened, and what the customer can do now.
fn words(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::OutOfStock => (
            "Something in it is out of stock: there was not enough left for your whole order.",
            "You can order again with fewer pieces, or without what is missing, or look again in a few days.",
        ),
        Reason::UnknownProduct => {
            ("Something in it is no longer sold.", "You can order the rest again, or choose something else.")
        }
        Reason::PaymentDeclined => (
            "Your payment was declined.",
            "You can order again with another means of payment. If you think that it was a mistake, ask your bank.",
        ),
        Reason::CancelledByCustomer => (
            "You cancelled it yourself.",
            "If you have changed your mind, simply order again. That was not you? Then somebody else may have signed in \
             as you: choose a new password right away.",
        ),
        Reason::Expired => (
            "It could not be completed in time, and we do not want to keep you waiting any longer.",
            "You need not have done anything wrong: payments sometimes take too long. You can simply order again.",
        ),
        Reason::CancelledByShop => (
            "We had to cancel it, and we are sorry.",
            "You have done nothing wrong. If nobody has told you why, ask us and name the number of the order.",
        ),
        Reason::Unknown => (
            "Unfortunately, it could not be completed.",
            "You can order again. If it fails again, ask us and name the number of the order.",
        ),
    }
}

fn why(shop: &str) -> String {
    format!("You receive this mail because you ordered something at {shop}.")
}

fn table(items: &[Item], total: &Money) -> Table {
    let row = |item: &Item| -> Row {
        let name = if item.name.is_empty() { &item.sku } else { &item.name };
        [name.clone(), item.quantity.to_string(), item.price.to_string(), item.amount.to_string()]
    };
    Table {
        head: ["Item", "Quantity", "Price", "Amount"].map(str::to_owned),
        rows: items.iter().map(row).collect(),
        total: total.to_string(),
    }
}
