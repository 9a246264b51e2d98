//! Products as this service knows them: name and price, from what inventory announced. It never asks inventory, and knows no stock.

use std::collections::HashMap;

use money::Money;
use sqlx::PgConnection;

/// A product that can be ordered.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price: Money,
}

impl Product {
    /// Keeps a version of a product, unless a newer one is known: a redrive or a replay brings old prices.
    pub(crate) async fn keep(&self, db: &mut PgConnection, version: i64) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into products (sku, name, price, currency, version) values ($1, $2, $3, $4, $5)
             on conflict (sku) do update
             set name = excluded.name, price = excluded.price, currency = excluded.currency, version = excluded.version,
                 updated_at = now()
             where products.version < excluded.version",
            self.sku,
            self.name,
            self.price.minor_units,
            self.price.currency,
            version
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Those of these products that there are, by SKU.
    pub(crate) async fn find(db: &mut PgConnection, skus: &[String]) -> Result<HashMap<String, Self>, sqlx::Error> {
        let rows = sqlx::query!("select sku, name, price, currency from products where sku = any($1)", skus)
            .fetch_all(db)
            .await?;
        let product = rows.into_iter().map(|row| {
            let price = Money { minor_units: row.price, currency: row.currency };
            (row.sku.clone(), Self { sku: row.sku, name: row.name, price })
        });
        Ok(product.collect())
    }
}
