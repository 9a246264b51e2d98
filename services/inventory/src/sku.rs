//! The shop's names for its products.

use serde::{Deserialize, Serialize};
use utoipa::openapi::{Object, ObjectBuilder, schema::Type};

const MAX_BYTES: usize = 32;

/// A stock-keeping unit: 1 to 32 capital letters, digits and hyphens, the first one no hyphen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Sku(String);

/// Why a text is no SKU.
#[derive(Debug, thiserror::Error)]
#[error("a SKU is 1 to {MAX_BYTES} capital letters, digits and hyphens, and does not begin with a hyphen")]
pub(crate) struct NoSku;

impl Sku {
    pub(crate) fn parse(text: impl Into<String>) -> Result<Self, NoSku> {
        let text = text.into();
        let plain = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit();
        let valid = (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|c| plain(c) || c == b'-')
            && text.bytes().next().is_some_and(plain);
        if valid { Ok(Self(text)) } else { Err(NoSku) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What [`Sku::parse`] accepts, for the documentation.
pub(crate) fn schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The shop's name for a product: capital letters, digits and hyphens"))
        .min_length(Some(1))
        .max_length(Some(MAX_BYTES))
        .pattern(Some("^[A-Z0-9][A-Z0-9-]{0,31}$"))
        .examples(["MUG-01"])
        .build()
}

impl TryFrom<String> for Sku {
    type Error = NoSku;

    fn try_from(text: String) -> Result<Self, NoSku> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_is_short_and_plain() {
        for right in ["A", "7", "MUG-01", "A-", "0-0", &"A".repeat(32)] {
            assert_eq!(Sku::parse(right).unwrap().as_str(), right);
        }
        for wrong in ["", "-A", "mug", "MUG 1", "MUG_1", "MÜG", "MUG\n", "MUG\0", "Ａ", &"A".repeat(33)] {
            assert!(Sku::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
