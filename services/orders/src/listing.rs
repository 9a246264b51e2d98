//! Lists of orders, page by page. It never changes one.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    order::{Line, Order},
    saga::{Reason, State},
};

/// Which orders a list shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only what this person may see: their own. `None` for operators.
    pub(crate) reader: Option<Uuid>,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) state: Option<State>,
}

impl Filter {
    /// Up to `limit` orders, newest first, that are older than the last one of the page before.
    pub(crate) async fn page(
        &self,
        db: &mut PgConnection,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Order>, sqlx::Error> {
        let (after_time, after_id) = after.unzip();
        sqlx::query_as!(
            Order,
            r#"select id, user_id, state as "state: State", reason as "reason: Reason",
                      (select jsonb_agg(jsonb_build_object('sku', sku, 'name', name, 'quantity', quantity, 'price', price)
                                        order by position)
                       from order_lines where order_id = id) as "lines!: Json<Vec<Line>>",
                      total, currency, payment_method, placed_at, updated_at, version
               from orders
               where ($1::uuid is null or user_id = $1)
                 and ($2::uuid is null or user_id = $2)
                 and ($3::text is null or state = $3)
                 and ($4::timestamptz is null or (placed_at, id) < ($4, $5::uuid))
               order by placed_at desc, id desc
               limit $6"#,
            self.reader,
            self.user_id,
            self.state.map(State::name),
            after_time,
            after_id,
            limit
        )
        .fetch_all(db)
        .await
    }
}
