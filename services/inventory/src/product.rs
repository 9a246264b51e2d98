//! Products: the SQL that loads, makes and changes them. Stock is moved in `stock.rs` only.

use chrono::{DateTime, Utc};
use events::inventory::v1::ProductChanged;
use money::Money;
use sqlx::PgConnection;
use utoipa::openapi::{Object, ObjectBuilder, schema::Type};

use crate::sku::Sku;

/// A stored product.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price_minor_units: i64,
    pub(crate) currency: String,
    pub(crate) available: i64,
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

/// What an operator says of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: Name,
    pub(crate) price: Money,
}

/// A product's name: 1 to 200 characters, none of them a control character, no white space around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// The longest name.
    const MAX_CHARS: usize = 200;
    /// What [`Name::parse`] accepts, beside the length: the white space of Unicode written out, because engines differ on `\s`.
    const PATTERN: &str = concat!(
        r"^[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
        r"([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000])?$"
    );

    /// Takes a name as it is, or says what is wrong with it.
    pub(crate) fn parse(text: String) -> Result<Self, &'static str> {
        match text.chars().count() {
            0 => Err("must not be empty"),
            1..=Self::MAX_CHARS if text.chars().any(char::is_control) => Err("must not have control characters"),
            1..=Self::MAX_CHARS if text.trim() != text => Err("must not begin or end with white space"),
            1..=Self::MAX_CHARS => Ok(Self(text)),
            _ => Err("must have at most 200 characters"),
        }
    }
}

/// What [`Name::parse`] accepts, for the documentation.
pub(crate) fn name_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("One line of text, without white space around it"))
        .min_length(Some(1))
        .max_length(Some(Name::MAX_CHARS))
        .pattern(Some(Name::PATTERN))
        .examples(["Mug, blue"])
        .build()
}

impl Product {
    /// A product as it is.
    pub(crate) async fn load(db: &mut PgConnection, sku: &Sku) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "select sku, name, price_minor_units, currency, available, version, updated_at from products where sku = $1",
            sku.as_str()
        )
        .fetch_optional(db)
        .await
    }

    /// A product that nobody else changes until the transaction ends: of two operators, the second sees what the first did.
    pub(crate) async fn lock(db: &mut PgConnection, sku: &Sku) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "select sku, name, price_minor_units, currency, available, version, updated_at from products where sku = $1
             for no key update",
            sku.as_str()
        )
        .fetch_optional(db)
        .await
    }

    /// Up to `limit` products in the order of their SKUs, after that of the page before.
    pub(crate) async fn page(db: &mut PgConnection, after: Option<&Sku>, limit: i64) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "select sku, name, price_minor_units, currency, available, version, updated_at from products
             where sku > $1 order by sku limit $2",
            after.map_or("", Sku::as_str),
            limit
        )
        .fetch_all(db)
        .await
    }

    /// Makes a product, without any stock. `None` if there is one.
    pub(crate) async fn create(
        db: &mut PgConnection,
        sku: &Sku,
        description: &Description,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "insert into products (sku, name, price_minor_units, currency) values ($1, $2, $3, $4)
             on conflict (sku) do nothing
             returning sku, name, price_minor_units, currency, available, version, updated_at",
            sku.as_str(),
            description.name.0,
            description.price.minor_units,
            description.price.currency
        )
        .fetch_optional(db)
        .await
    }

    /// Whether it is described like this already.
    pub(crate) fn is(&self, description: &Description) -> bool {
        self.name == description.name.0 && self.price() == description.price
    }

    /// Gives it another name and price. The currency must be the same.
    pub(crate) async fn describe(
        &mut self,
        db: &mut PgConnection,
        description: Description,
    ) -> Result<(), sqlx::Error> {
        let changed = sqlx::query!(
            "update products set name = $2, price_minor_units = $3, version = version + 1, updated_at = clock_timestamp()
             where sku = $1
             returning version, updated_at",
            self.sku,
            description.name.0,
            description.price.minor_units
        )
        .fetch_one(db)
        .await?;
        (self.name, self.price_minor_units) = (description.name.0, description.price.minor_units);
        (self.version, self.updated_at) = (changed.version, changed.updated_at);
        Ok(())
    }

    pub(crate) fn price(&self) -> Money {
        Money { minor_units: self.price_minor_units, currency: self.currency.clone() }
    }

    /// What the others are told.
    pub(crate) fn changed(&self) -> ProductChanged {
        ProductChanged {
            sku: self.sku.clone(),
            name: self.name.clone(),
            price: Some((&self.price()).into()),
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_line_of_text() {
        for right in ["M", "Mug", "Große Tasse ☕ (0,3 l)", "杯", "a b", "\u{feff}x", &"ß".repeat(200)] {
            assert!(Name::parse(right.to_owned()).is_ok(), "{right:?}");
        }
        for wrong in ["", " ", " Mug", "Mug ", "Mug\u{a0}", "Mug\n", "M\tug", "M\0", "M\u{85}g", "\u{3000}杯"] {
            assert!(Name::parse(wrong.to_owned()).is_err(), "{wrong:?}");
        }
        assert!(Name::parse("ß".repeat(201)).is_err());
    }

    /// The documentation must refuse what the code refuses, character by character.
    #[test]
    fn the_documented_pattern_leaves_out_exactly_the_white_space_and_the_controls() {
        let classes: Vec<_> = Name::PATTERN.split("[^").skip(1).map(|rest| rest.split(']').next().unwrap()).collect();
        let [edge, inside, again] = classes[..] else { panic!("{classes:?}") };
        assert_eq!(edge, again);
        for c in '\0'..=char::MAX {
            assert_eq!(holds(edge, c), c.is_control() || c.is_whitespace(), "{c:?} at an end");
            assert_eq!(holds(inside, c), c.is_control(), "{c:?} inside");
        }
    }

    /// Whether a class of `\uXXXX` and `\uXXXX-\uXXXX` holds a character.
    fn holds(class: &str, c: char) -> bool {
        let code = |digits: &str| u32::from_str_radix(&digits[..4], 16).unwrap();
        let items: Vec<_> = class.split(r"\u").skip(1).collect();
        let mut at = 0;
        while at < items.len() {
            let from = code(items[at]);
            let is_range = items[at].ends_with('-');
            let to = if is_range { code(items[at + 1]) } else { from };
            if (from..=to).contains(&u32::from(c)) {
                return true;
            }
            at += if is_range { 2 } else { 1 };
        }
        false
    }
}
