//! Products and their stock, as the operator sees them.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Person, Shop, eventually};
use crate::http::{self, Method, StatusCode};

/// An amount in the smallest unit of its currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Cents, for a euro.
    pub minor_units: i64,
    /// ISO 4217.
    pub currency: String,
}

impl Money {
    /// Euros, in cents.
    #[must_use]
    pub fn cents(cents: i64) -> Self {
        Self { minor_units: cents, currency: "EUR".to_owned() }
    }
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02} {}", self.minor_units / 100, self.minor_units % 100, self.currency)
    }
}

/// A product as everybody sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Product {
    /// Its number.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// What one costs.
    pub price: Money,
    /// How many can be ordered.
    pub available: i64,
}

/// What there is of a product. The first three add up to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Stock {
    /// Free.
    pub available: i64,
    /// Held for orders.
    pub reserved: i64,
    /// Customers'.
    pub sold: i64,
    /// All that ever came.
    pub received: i64,
}

impl std::fmt::Display for Stock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { available, reserved, sold, received } = self;
        write!(f, "{available} available + {reserved} reserved + {sold} sold = {received} received")
    }
}

impl Shop {
    /// Makes a product, unless it is there. `Ok(false)`: it was.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn add_product(&self, operator: &Person, sku: &str, name: &str, price: &Money) -> Result<bool> {
        let body = json!({ "name": name, "price": price });
        let path = format!("/products/{sku}");
        let new = [("if-none-match", "*")];
        let answer = http::send(self.inventory, Method::PUT, &path, Some(&operator.token), &new, Some(&body)).await?;
        if answer.status == StatusCode::PRECONDITION_FAILED {
            return Ok(false);
        }
        ensure!(answer.status == 201, "PUT {path} was answered with {}: {}", answer.status, answer.text());
        Ok(true)
    }

    /// Adds to the stock of a product, once per `key`.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn restock(&self, operator: &Person, sku: &str, quantity: u32, key: &str) -> Result<()> {
        let body = json!({ "quantity": quantity });
        let path = format!("/products/{sku}/restocks");
        let key = [("idempotency-key", key)];
        let answer = http::send(self.inventory, Method::POST, &path, Some(&operator.token), &key, Some(&body)).await?;
        ensure!(answer.status == 201, "POST {path} was answered with {}: {}", answer.status, answer.text());
        Ok(())
    }

    /// A product with some stock, under a number of its own.
    ///
    /// # Errors
    /// When one of both is refused.
    pub async fn new_product(&self, operator: &Person, sku: &str, quantity: u32) -> Result<()> {
        self.add_product(operator, sku, &format!("Sample {sku}"), &Money::cents(1_999)).await?;
        self.restock(operator, sku, quantity, &format!("first-{sku}")).await
    }

    /// What there is of a product.
    ///
    /// # Errors
    /// When the service does not say.
    pub async fn stock(&self, operator: &Person, sku: &str) -> Result<Stock> {
        let path = format!("/products/{sku}/stock");
        let answer = http::get_as(self.inventory, &path, &operator.token).await?.success().with_context(|| path)?;
        Ok(serde_json::from_value(answer.json()?)?)
    }

    /// Waits until there is that much of a product.
    ///
    /// # Errors
    /// When there is not; says what there is.
    pub async fn stock_becomes(&self, operator: &Person, sku: &str, wanted: Stock) -> Result<()> {
        let mut last = None;
        let found = eventually("the stock", super::PATIENCE, async || {
            last = Some(self.stock(operator, sku).await?);
            Ok((last == Some(wanted)).then_some(()))
        });
        let found = found.await;
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        found.with_context(|| format!("{sku} should have become {wanted}, and is {last}"))
    }

    /// One product.
    ///
    /// # Errors
    /// When there is none of this number.
    pub async fn product(&self, sku: &str) -> Result<Product> {
        Ok(serde_json::from_value(http::get_json(self.inventory, &format!("/products/{sku}")).await?)?)
    }
}
