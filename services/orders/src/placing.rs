//! From what a customer wants to an order that can be placed: what is wrong with it, all at once, and what it costs. It neither
//! stores nor reserves anything.

use std::collections::HashMap;

use money::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    order::{Line, NewOrder},
    product::Product,
};

/// Lines of one order at most.
const MAX_LINES: usize = 50;
/// Of one product in one order at most.
const MAX_QUANTITY: u16 = 1000;

/// What a customer wants. Prices are the shop's, so there are none in it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(example = json!({ "lines": [{ "sku": "MUG-01", "quantity": 2 }], "payment_method": "pm_ok" }))]
pub(crate) struct PlaceOrder {
    /// One line for each product; all of them with prices in one currency.
    #[schema(min_items = 1, max_items = 50)]
    lines: Vec<WantedLine>,
    /// The payment provider's name for the means of payment.
    #[schema(example = "pm_ok", pattern = "^[A-Za-z0-9_-]{1,64}$")]
    payment_method: String,
}

/// A product and how many of it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct WantedLine {
    #[schema(example = "MUG-01", pattern = "^[A-Z0-9][A-Z0-9-]{0,31}$")]
    sku: String,
    #[schema(example = 2, minimum = 1, maximum = 1000)]
    quantity: i64,
}

/// What is wrong with one member of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// A JSON pointer (RFC 6901).
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl Wrong {
    fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl PlaceOrder {
    /// The products that are wanted.
    pub(crate) fn skus(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.sku.clone()).collect()
    }

    /// Everything that is wrong, whatever products there are.
    pub(crate) fn check(&self) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        if self.lines.is_empty() || self.lines.len() > MAX_LINES {
            let lines = self.lines.len();
            wrong.push(Wrong::new("/lines", format!("has {lines} lines; an order has 1 to {MAX_LINES}")));
        }
        let mut seen = HashMap::new();
        for (index, line) in self.lines.iter().enumerate().take(MAX_LINES) {
            let at = format!("/lines/{index}/sku");
            if !is_sku(&line.sku) {
                wrong.push(Wrong::new(&at, "is no SKU: 1 to 32 capital letters, digits and hyphens, no hyphen first"));
            } else if let Some(first) = seen.insert(&line.sku, index) {
                wrong.push(Wrong::new(
                    &at,
                    format!("stands in line {first} too; write one line with the whole quantity"),
                ));
                seen.insert(&line.sku, first);
            }
            if quantity(line.quantity).is_none() {
                wrong.push(Wrong::new(format!("/lines/{index}/quantity"), format!("must be from 1 to {MAX_QUANTITY}")));
            }
        }
        if !is_payment_method(&self.payment_method) {
            wrong.push(Wrong::new("/payment_method", "must be 1 to 64 letters, digits, underscores and hyphens"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The order at today's prices, or everything that is wrong with it.
    pub(crate) fn price(self, user_id: Uuid, products: &HashMap<String, Product>) -> Result<NewOrder, Vec<Wrong>> {
        self.check()?;
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        // What the first known product is sold in is the currency of the order.
        let currency = self.lines.iter().find_map(|line| products.get(&line.sku)).map(|known| &known.price.currency);
        for (index, line) in self.lines.iter().enumerate() {
            let at = format!("/lines/{index}/sku");
            match (products.get(&line.sku), quantity(line.quantity)) {
                (Some(Product { price, .. }), _) if Some(&price.currency) != currency => {
                    let detail =
                        "has a price in another currency than the lines before; place an order for each currency";
                    wrong.push(Wrong::new(at, detail));
                }
                (Some(Product { sku, name, price }), Some(quantity)) => {
                    lines.push(Line { sku: sku.clone(), name: name.clone(), quantity, price: price.minor_units });
                }
                _ => wrong
                    .push(Wrong::new(at, "is no product of this shop; GET /products of the inventory service has all")),
            }
        }
        let total = total(lines.iter().map(|line| (line.price, line.quantity)));
        match (total, currency) {
            (Some(minor_units), Some(currency)) if wrong.is_empty() => {
                let total = Money { minor_units, currency: currency.clone() };
                Ok(NewOrder { user_id, lines, total, payment_method: self.payment_method })
            }
            (Some(_), _) => Err(wrong),
            (None, _) => {
                wrong.push(Wrong::new("/lines", "cost more than there are numbers for; place several orders"));
                Err(wrong)
            }
        }
    }
}

fn is_sku(text: &str) -> bool {
    let mut bytes = text.bytes();
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    text.len() <= 32 && bytes.next().is_some_and(plain) && bytes.all(|byte| plain(byte) || byte == b'-')
}

fn is_payment_method(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn quantity(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|quantity| (1..=MAX_QUANTITY).contains(quantity))
}

/// The sum of prices times quantities; `None` if there is no such number.
fn total(lines: impl IntoIterator<Item = (i64, u16)>) -> Option<i64> {
    lines.into_iter().try_fold(0_i64, |sum, (price, quantity)| sum.checked_add(price.checked_mul(i64::from(quantity))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(lines: &[(&str, i64)]) -> PlaceOrder {
        let lines = lines.iter().map(|(sku, quantity)| WantedLine { sku: (*sku).into(), quantity: *quantity });
        PlaceOrder { lines: lines.collect(), payment_method: "pm_ok".into() }
    }

    fn shop(products: &[(&str, i64, &str)]) -> HashMap<String, Product> {
        let product = |(sku, price, currency): &(&str, i64, &str)| {
            let price = Money { minor_units: *price, currency: (*currency).into() };
            ((*sku).to_owned(), Product { sku: (*sku).into(), name: format!("The {sku}"), price })
        };
        products.iter().map(product).collect()
    }

    fn pointers(wrong: Vec<Wrong>) -> Vec<String> {
        wrong.into_iter().map(|wrong| wrong.pointer).collect()
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let mut order = wanted(&[("mug", 0), ("A", 1), ("A", 1001), ("", -1), ("A", 1)]);
        order.payment_method = "my card".into();
        let expected = [
            "/lines/0/sku",
            "/lines/0/quantity",
            "/lines/2/sku",
            "/lines/2/quantity",
            "/lines/3/sku",
            "/lines/3/quantity",
            "/lines/4/sku",
            "/payment_method",
        ];
        assert_eq!(pointers(order.check().unwrap_err()), expected);
        assert_eq!(pointers(wanted(&[]).check().unwrap_err()), ["/lines"]);
        let skus: Vec<_> = (0..51).map(|n| format!("A{n}")).collect();
        let many: Vec<_> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
        assert_eq!(pointers(wanted(&many).check().unwrap_err()), ["/lines"]);
        assert!(wanted(&many[..50]).check().is_ok());
    }

    #[test]
    fn a_sku_is_what_inventory_calls_one() {
        for sku in ["A", "0", "MUG-01", "A--", &"A".repeat(32)] {
            assert!(is_sku(sku), "{sku}");
        }
        for no in ["", "-A", "a", "A B", "Ä", &"A".repeat(33)] {
            assert!(!is_sku(no), "{no}");
        }
    }

    #[test]
    fn an_order_costs_the_prices_of_the_shop_times_the_quantities() {
        let order = wanted(&[("A", 2), ("B", 1000)]).price(Uuid::nil(), &shop(&[("A", 1999, "EUR"), ("B", 1, "EUR")]));
        let order = order.unwrap();
        assert_eq!(order.total, Money { minor_units: 4998, currency: "EUR".into() });
        assert_eq!((order.lines[0].price, &*order.lines[0].name), (1999, "The A"));
    }

    #[test]
    fn what_has_no_price_or_several_currencies_is_no_order() {
        let products = shop(&[("A", 1, "EUR"), ("B", 1, "USD"), ("C", i64::MAX, "EUR")]);
        let refused = |lines: &[(&str, i64)]| pointers(wanted(lines).price(Uuid::nil(), &products).unwrap_err());
        assert_eq!(
            refused(&[("X", 1), ("A", 1), ("Y", 1), ("B", 1)]),
            ["/lines/0/sku", "/lines/2/sku", "/lines/3/sku"]
        );
        assert_eq!(refused(&[("X", 1)]), ["/lines/0/sku"]);
        assert_eq!(refused(&[("C", 2)]), ["/lines"]);
        assert_eq!(refused(&[("C", 1), ("A", 1)]), ["/lines"]);
    }

    #[test]
    fn a_sum_that_does_not_fit_is_none() {
        assert_eq!(total([(1999, 2), (1, 1000)]), Some(4998));
        assert_eq!(total([]), Some(0));
        assert_eq!(total([(i64::MAX, 1), (0, 1000)]), Some(i64::MAX));
        assert_eq!(total([(i64::MAX, 2)]), None);
        assert_eq!(total([(i64::MAX, 1), (1, 1)]), None);
    }
}
