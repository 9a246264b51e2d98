//! Which lines are asked for, newest first, page by page.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::line::Line;

/// Only lines that fit all of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) service: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) route: Option<String>,
    /// The lowest and the highest status.
    pub(crate) status: Option<(i16, i16)>,
    pub(crate) from: Option<DateTime<Utc>>,
    /// Exclusive.
    pub(crate) to: Option<DateTime<Utc>>,
    pub(crate) trace_id: Option<String>,
}

impl Filter {
    /// The newest lines after a place in the list.
    pub(crate) async fn page(
        &self,
        db: &mut PgConnection,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Line>, sqlx::Error> {
        let (at, id) = after.unzip();
        let (lowest, highest) = self.status.unzip();
        // The time is compared by itself as well: that is what partitions are chosen by.
        sqlx::query_as!(
            Line,
            r#"select at, id, service, instance, method, route, status, duration_us, request_bytes, response_bytes,
                      client_network::text as client_network, user_agent, trace_id
               from access_log
               where ($1::text is null or service = $1)
                 and ($2::text is null or method = $2)
                 and ($3::text is null or route = $3)
                 and ($4::smallint is null or status between $4 and $5)
                 and ($6::timestamptz is null or at >= $6)
                 and ($7::timestamptz is null or at < $7)
                 and ($8::text is null or trace_id = $8)
                 and ($9::timestamptz is null or at <= $9 and (at, id) < ($9, $10::uuid))
               order by at desc, id desc
               limit $11"#,
            self.service,
            self.method,
            self.route,
            lowest,
            highest,
            self.from,
            self.to,
            self.trace_id,
            at,
            id,
            limit,
        )
        .fetch_all(db)
        .await
    }
}
