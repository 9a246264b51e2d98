//! Amounts of money: whole numbers of the smallest unit of a currency. Never a floating-point number, and nothing overflows.

use events::postrider::money::v1::Money as MoneyMessage;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount in the smallest unit of its currency: 1999 EUR is nineteen euros and ninety-nine cents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Money {
    #[schema(example = 1999, minimum = 0)]
    pub(crate) minor_units: i64,
    /// ISO 4217.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub(crate) currency: String,
}

impl Money {
    /// The amount of an event; `None` if it is missing, negative, or of no currency.
    pub(crate) fn read(message: Option<MoneyMessage>) -> Option<Self> {
        let MoneyMessage { minor_units, currency } = message?;
        let valid = minor_units >= 0 && currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        valid.then_some(Self { minor_units, currency })
    }

    /// For an event.
    pub(crate) fn message(&self) -> MoneyMessage {
        MoneyMessage { minor_units: self.minor_units, currency: self.currency.clone() }
    }
}

/// The sum of prices times quantities; `None` if there is no such number.
pub(crate) fn total(lines: impl IntoIterator<Item = (i64, u16)>) -> Option<i64> {
    lines.into_iter().try_fold(0_i64, |sum, (price, quantity)| sum.checked_add(price.checked_mul(i64::from(quantity))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_does_not_fit_is_none() {
        assert_eq!(total([(1999, 2), (1, 1000)]), Some(4998));
        assert_eq!(total([]), Some(0));
        assert_eq!(total([(i64::MAX, 1), (0, 1000)]), Some(i64::MAX));
        assert_eq!(total([(i64::MAX, 2)]), None);
        assert_eq!(total([(i64::MAX, 1), (1, 1)]), None);
    }

    #[test]
    fn what_is_no_amount_is_none() {
        let read =
            |minor_units, currency: &str| Money::read(Some(MoneyMessage { minor_units, currency: currency.into() }));
        assert!(read(0, "EUR").is_some());
        assert!(
            read(-1, "EUR").is_none() && read(1, "eur").is_none() && read(1, "EURO").is_none() && read(1, "").is_none()
        );
        assert!(Money::read(None).is_none());
    }
}
