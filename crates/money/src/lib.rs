//! Amounts of money: whole numbers of the smallest unit of a currency, in events, answers and letters the same. Never a floating-point
//! number; nothing is converted or rounded, and nothing overflows silently.

pub mod currency;

use std::fmt;

use events::postrider::money::v1::Money as Announced;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount in the smallest unit of its currency: 1999 EUR is nineteen euros and ninety-nine cents.
///
/// ```
/// let price: money::Money = serde_json::from_str(r#"{"minor_units": 199900, "currency": "EUR"}"#)?;
/// assert_eq!(price.to_string(), "1,999.00 EUR");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"minor_units": 1999, "currency": "EUR"}))]
pub struct Money {
    /// In the smallest unit of the currency.
    #[schema(minimum = 0)]
    pub minor_units: i64,
    /// Three capital letters (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$")]
    pub currency: String,
}

/// Why something that was announced is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAmount {
    /// Nothing was said.
    #[error("the amount is missing")]
    Missing,
    /// Less than nothing.
    #[error("the amount is negative")]
    Negative,
    /// Not three capital letters.
    #[error("the currency of the amount is not three capital letters (ISO 4217)")]
    Currency,
}

impl Money {
    /// The amount of an event.
    ///
    /// # Errors
    /// See [`NoAmount`].
    pub fn announced(money: Option<Announced>) -> Result<Self, NoAmount> {
        let Announced { minor_units, currency } = money.ok_or(NoAmount::Missing)?;
        if minor_units < 0 {
            return Err(NoAmount::Negative);
        }
        if !currency::is_code(&currency) {
            return Err(NoAmount::Currency);
        }
        Ok(Self { minor_units, currency })
    }

    /// So many times as much; `None` if there is no such number.
    #[must_use]
    pub fn times(&self, quantity: u32) -> Option<Self> {
        let minor_units = self.minor_units.checked_mul(i64::from(quantity))?;
        Some(Self { minor_units, currency: self.currency.clone() })
    }
}

impl From<&Money> for Announced {
    fn from(money: &Money) -> Self {
        Self { minor_units: money.minor_units, currency: money.currency.clone() }
    }
}

/// As people read it: `1,234.50 EUR`, `1,234 JPY`, `1.234 BHD`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = currency::decimals(&self.currency);
        let (amount, unit) = (self.minor_units.unsigned_abs(), 10_u64.pow(decimals));
        if self.minor_units < 0 {
            f.write_str("-")?;
        }
        f.write_str(&grouped(amount / unit))?;
        if decimals > 0 {
            write!(f, ".{:0width$}", amount % unit, width = decimals as usize)?;
        }
        write!(f, " {}", self.currency)
    }
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(minor_units: i64, currency: &str) -> Money {
        Money { minor_units, currency: currency.into() }
    }

    #[test]
    fn every_currency_has_its_own_number_of_decimals() {
        for (minor_units, currency, expected) in [
            (1999, "EUR", "19.99 EUR"),
            (5, "EUR", "0.05 EUR"),
            (0, "USD", "0.00 USD"),
            (1500, "JPY", "1,500 JPY"),
            (1234, "BHD", "1.234 BHD"),
            (1, "BHD", "0.001 BHD"),
            (100_000_000, "EUR", "1,000,000.00 EUR"),
            (99_999, "EUR", "999.99 EUR"),
            (-1999, "EUR", "-19.99 EUR"),
            (i64::MAX, "EUR", "92,233,720,368,547,758.07 EUR"),
            (i64::MIN, "JPY", "-9,223,372,036,854,775,808 JPY"),
        ] {
            assert_eq!(money(minor_units, currency).to_string(), expected);
        }
    }

    #[test]
    fn what_is_announced_is_checked() {
        let announced =
            |minor_units, currency: &str| Money::announced(Some(Announced { minor_units, currency: currency.into() }));
        assert_eq!(announced(0, "EUR"), Ok(money(0, "EUR")));
        assert_eq!(announced(-1, "EUR"), Err(NoAmount::Negative));
        for currency in ["", "eur", "EURO", "€", "E1R"] {
            assert_eq!(announced(1, currency), Err(NoAmount::Currency), "{currency}");
        }
        assert_eq!(Money::announced(None), Err(NoAmount::Missing));
        assert_eq!(Announced::from(&money(7, "EUR")), Announced { minor_units: 7, currency: "EUR".into() });
    }

    #[test]
    fn so_many_times_a_price_is_an_amount_or_too_much() {
        assert_eq!(money(1999, "EUR").times(2), Some(money(3998, "EUR")));
        assert_eq!(money(i64::MAX, "EUR").times(2), None);
    }
}
