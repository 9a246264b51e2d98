//! What is there in the end, to see that everything was done.

use std::collections::BTreeMap;

use anyhow::Result;
use sqlx::Row as _;

use super::Shop;

impl Shop {
    /// Of each thing that every order leaves, how many there are.
    pub(super) async fn rows(&self) -> Result<BTreeMap<&'static str, i64>> {
        const COUNTS: [(&str, &str, &str); 6] = [
            ("orders", "confirmed orders", "select count(*) from orders where state = 'confirmed'"),
            (
                "orders",
                "orders with four entries of history",
                "select count(*) from orders where state = 'confirmed' and version = 4",
            ),
            ("inventory", "committed reservations", "select count(*) from reservations where state = 'committed'"),
            ("inventory", "pieces sold", "select sum(sold)::bigint from products"),
            ("payments", "authorized payments", "select count(*) from payments where state = 'authorized'"),
            (
                "notifications",
                "letters of confirmation",
                "select count(*) from notifications where state = 'sent' and template = 'order_confirmed'",
            ),
        ];
        let mut rows = BTreeMap::new();
        for (database, what, query) in COUNTS {
            let mut conn = self.connect(database).await?;
            rows.insert(what, sqlx::query(query).fetch_one(&mut conn).await?.try_get(0)?);
        }
        Ok(rows)
    }
}
