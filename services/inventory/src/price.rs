//! Prices, as operators send them.

use money::{Money, currency};
use serde::Deserialize;
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, schema::Type},
};

/// The highest price: ten billion euros, in cents. Fifty lines of a thousand pieces at this price still fit into an `i64`.
const MAX_MINOR_UNITS: i64 = 1_000_000_000_000;

/// What one piece shall cost.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"minor_units": 1999, "currency": "EUR"}))]
pub(crate) struct Price {
    /// In the smallest unit of the currency: 1999 EUR is nineteen euros and ninety-nine cents.
    #[schema(minimum = 1, maximum = 1_000_000_000_000i64)]
    minor_units: i64,
    #[schema(schema_with = currency_schema)]
    currency: String,
}

impl Price {
    /// The amount, or what is wrong: each member as a JSON pointer, with a sentence for whoever wrote it.
    pub(crate) fn check(self) -> Result<Money, Vec<(&'static str, &'static str)>> {
        let Self { minor_units, currency } = self;
        let mut faults = Vec::new();
        if !(1..=MAX_MINOR_UNITS).contains(&minor_units) {
            faults.push(("/minor_units", "must be from 1 to 1000000000000"));
        }
        if !currency::is_in_use(&currency) {
            let fault = "must be the code of a currency in use (ISO 4217), in capital letters, such as EUR";
            faults.push(("/currency", fault));
        }
        if faults.is_empty() { Ok(Money { minor_units, currency }) } else { Err(faults) }
    }
}

fn currency_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("ISO 4217"))
        .enum_values(Some(currency::CURRENCIES))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(minor_units: i64, currency: &str) -> Vec<&'static str> {
        let checked = Price { minor_units, currency: currency.into() }.check();
        checked.err().unwrap_or_default().into_iter().map(|(member, _)| member).collect()
    }

    #[test]
    fn a_price_is_positive_bounded_and_in_a_real_currency() {
        for (minor_units, currency) in [(1, "EUR"), (MAX_MINOR_UNITS, "JPY"), (1999, "USD")] {
            assert_eq!(faults(minor_units, currency), [""; 0], "{minor_units} {currency}");
        }
        for minor_units in [0, -1, i64::MIN, MAX_MINOR_UNITS + 1, i64::MAX] {
            assert_eq!(faults(minor_units, "EUR"), ["/minor_units"], "{minor_units}");
        }
        for currency in ["", "eur", "XXX", "DEM", "€"] {
            assert_eq!(faults(1, currency), ["/currency"], "{currency}");
        }
        assert_eq!(faults(0, "?"), ["/minor_units", "/currency"]);
    }
}
