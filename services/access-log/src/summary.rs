//! How each route of each service does: how often it is asked, how often it fails, how long it takes.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// There are far fewer routes; a service that made its patterns up would otherwise fill the answer.
const MAX_ROUTES: i64 = 1_000;

/// One method of one route of one service, over some time.
#[derive(Clone, Debug)]
pub(crate) struct RouteSummary {
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) requests: i64,
    /// Those with a status of 500 or more.
    pub(crate) errors: i64,
    /// Median, 95th and 99th percentile of the duration.
    pub(crate) percentiles_us: Vec<f64>,
}

/// Summed up from `from` to `to` (exclusive), by service, route and method.
pub(crate) async fn by_route(
    db: &mut PgConnection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    service: Option<&str>,
) -> Result<Vec<RouteSummary>, sqlx::Error> {
    sqlx::query_as!(
        RouteSummary,
        r#"select service, method, route, count(*) as "requests!", count(*) filter (where status >= 500) as "errors!",
                  percentile_cont(array[0.5, 0.95, 0.99]) within group (order by duration_us) as "percentiles_us!"
           from access_log
           where at >= $1 and at < $2 and ($3::text is null or service = $3)
           group by service, route, method
           order by service, route, method
           limit $4"#,
        from,
        to,
        service,
        MAX_ROUTES,
    )
    .fetch_all(db)
    .await
}
