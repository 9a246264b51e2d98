//! `GET /access-logs/summary`: how each route does.
#![expect(unused_qualifications, reason = "utoipa's expansion of `params` qualifies what is imported")]

use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use chrono::{DateTime, TimeDelta, Utc};
use messaging::Outbox;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Moment, Problem, ProblemBody, Query, auth::Operator};

use super::words::ServiceName;
use crate::{
    error::Error,
    summary::{self, RouteSummary},
};

/// What is summed up when nothing else is asked for.
const USUAL: TimeDelta = TimeDelta::hours(1);
/// A percentile needs every line of its time.
const LONGEST: TimeDelta = TimeDelta::days(7);

/// What to sum up.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// From this time on; an hour before `to` if it is left out.
    #[param(value_type = Option<DateTime<Utc>>)]
    from: Option<Moment>,
    /// Up to this time, exclusive; now if it is left out. At most seven days after `from`.
    #[param(value_type = Option<DateTime<Utc>>)]
    to: Option<Moment>,
    /// Only this service.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9-]{1,40}$", example = "orders")]
    service: Option<ServiceName>,
}

/// Requests over some time.
#[derive(Serialize, ToSchema)]
#[schema(as = Summary, example = json!({
    "from": "2026-11-23T08:00:00Z",
    "to": "2026-11-23T09:00:00Z",
    "routes": [{
        "service": "orders", "method": "POST", "route": "/orders", "requests": 7200, "requests_per_second": 2.0,
        "error_share": 0.001, "p50_ms": 4.2, "p95_ms": 11.0, "p99_ms": 30.5
    }]
}))]
pub(crate) struct SummaryView {
    from: DateTime<Utc>,
    /// Exclusive.
    to: DateTime<Utc>,
    /// By service, route and method.
    routes: Vec<RouteView>,
}

/// One method of one route of one service.
#[derive(Serialize, ToSchema)]
#[schema(as = RouteSummary)]
pub(crate) struct RouteView {
    service: String,
    method: String,
    /// The pattern, or `unmatched`.
    route: String,
    requests: i64,
    /// On average over the whole time.
    requests_per_second: f64,
    /// The share of requests with a status of 500 or more, 0 to 1.
    error_share: f64,
    /// Half of the requests took no longer.
    p50_ms: f64,
    /// 95 % of the requests took no longer.
    p95_ms: f64,
    /// 99 % of the requests took no longer.
    p99_ms: f64,
}

impl RouteView {
    fn of(summary: RouteSummary, seconds: f64) -> Self {
        let percentile = |at: usize| summary.percentiles_us.get(at).copied().unwrap_or_default() / 1_000.0;
        let requests = summary.requests as f64;
        Self {
            requests_per_second: requests / seconds,
            error_share: summary.errors as f64 / requests,
            p50_ms: percentile(0),
            p95_ms: percentile(1),
            p99_ms: percentile(2),
            service: summary.service,
            method: summary.method,
            route: summary.route,
            requests: summary.requests,
        }
    }
}

/// Sums up how often each route was asked, how often it failed, and how long it took.
#[utoipa::path(
    get, path = "/access-logs/summary", tag = "access log", params(Wanted), security(("bearer" = [])),
    responses(
        (status = 200, description = "What was asked in that time.", body = SummaryView),
        (status = 400, description = "A parameter is unknown or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "The access token is missing or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "Only operators may do this.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "There is too much to sum up, or the database is away.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(_: Operator, wanted: Query<Wanted>, outbox: Data<Outbox>) -> Result<HttpResponse, Error> {
    let Wanted { from, to, service } = wanted.into_inner();
    let (from, to) = window(from.map(Moment::utc), to.map(Moment::utc), Utc::now())?;
    let mut db = outbox.begin().await?;
    super::within_limits(&mut db).await?;
    let routes = summary::by_route(&mut db, from, to, service.as_ref().map(|ServiceName(name)| name.as_str())).await?;
    let seconds = (to - from).as_seconds_f64();
    let routes = routes.into_iter().map(|route| RouteView::of(route, seconds)).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "private, no-cache")).json(SummaryView { from, to, routes }))
}

/// The time that is meant: not empty, and not too long.
fn window(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Problem> {
    let to = to.unwrap_or(now);
    let refused = |why: &'static str| {
        Problem::bad_request("Ask for a time that has a beginning before its end and is not too long.")
            .parameter("from", why)
    };
    let from = match from {
        Some(from) => from,
        None => to.checked_sub_signed(USUAL).ok_or_else(|| refused("is out of reach"))?,
    };
    match to - from {
        length if length <= TimeDelta::zero() => Err(refused("must be before `to`, which is now if it is left out")),
        length if length > LONGEST => {
            Err(refused("must be at most seven days before `to`, which is now if it is left out"))
        }
        _ => Ok((from, to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_last_hour_unless_it_is_said_and_never_longer_than_a_week() {
        let now = Utc::now();
        assert_eq!(window(None, None, now).unwrap(), (now - USUAL, now));
        assert_eq!(window(None, Some(now - USUAL), now).unwrap(), (now - USUAL * 2, now - USUAL));
        assert!(window(Some(now - LONGEST), None, now).is_ok());
        for (from, to) in [(now, None), (now + USUAL, None), (now - LONGEST - USUAL, None), (now, Some(now - USUAL))] {
            assert_eq!(window(Some(from), to, now).unwrap_err().status(), 400, "{from} {to:?}");
        }
    }
}
