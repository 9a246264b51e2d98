//! Amounts of money: minor units and a currency, never a floating-point number. Nothing here is converted or rounded.

use std::fmt;

use events::postrider::money::v1 as wire;
use serde::Serialize;
use utoipa::ToSchema;

/// An amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"minor_units": 1999, "currency": "EUR"}))]
pub struct Money {
    /// In the smallest unit of the currency: 1999 EUR is nineteen euros and ninety-nine cents.
    #[schema(minimum = 0)]
    pub minor_units: i64,
    /// Three capital letters (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$")]
    pub currency: String,
}

/// Why something is no amount that can be paid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAmount {
    #[error("`amount` is missing")]
    Missing,
    #[error("`amount` is negative: {0}")]
    Negative(i64),
    #[error("the currency of `amount` is not three capital letters")]
    Currency,
}

impl Money {
    /// What an event asks for.
    pub(crate) fn asked(money: Option<wire::Money>) -> Result<Self, NoAmount> {
        let wire::Money { minor_units, currency } = money.ok_or(NoAmount::Missing)?;
        if minor_units < 0 {
            return Err(NoAmount::Negative(minor_units));
        }
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(NoAmount::Currency);
        }
        Ok(Self { minor_units, currency })
    }

    /// As events say it.
    pub(crate) fn to_wire(&self) -> wire::Money {
        wire::Money { minor_units: self.minor_units, currency: self.currency.clone() }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.minor_units, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::{Money, wire};

    #[test]
    fn only_amounts_that_can_be_paid_are_taken() {
        let asked =
            |minor_units, currency: &str| Money::asked(Some(wire::Money { minor_units, currency: currency.into() }));
        assert!(asked(0, "EUR").is_ok() && asked(i64::MAX, "JPY").is_ok());
        assert!(asked(-1, "EUR").is_err() && Money::asked(None).is_err());
        for currency in ["", "eur", "EU", "EURO", "E1R", "€"] {
            assert!(asked(1, currency).is_err(), "{currency}");
        }
    }
}
