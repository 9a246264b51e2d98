//! An order as most shops begin: its mail is sent before the answer. The order is committed first and its connection given back, which is the
//! best that can be done for this side: whoever sends within the transaction holds a connection and locks as long as the mail server likes.

use anyhow::Result;
use sqlx::PgPool;
use uuid::Uuid;

use super::commit::commit;
use crate::{load::Business, smtp::Mailer};

/// Everything that is done before the answer.
pub(crate) async fn order(pool: &PgPool, mailer: &Mailer, order: Uuid) -> Result<()> {
    commit(pool, Business::Order, &order.to_string()).await?;
    mailer.send(order).await?;
    Ok(())
}
