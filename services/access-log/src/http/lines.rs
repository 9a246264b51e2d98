//! `GET /access-logs`: the lines themselves.
#![expect(unused_qualifications, reason = "utoipa's expansion of `params` qualifies what is imported")]

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web::Data};
use chrono::{DateTime, Utc};
use messaging::Outbox;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use web::{Moment, Page, ProblemBody, Query, auth::Operator, page::Place};

use super::words::{Method, RoutePattern, ServiceName, StatusRange, TraceId};
use crate::{error::Error, line::Line, listing::Filter};

/// Which lines to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Only what this service answered.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9-]{1,40}$", example = "orders")]
    service: Option<ServiceName>,
    /// Only this method.
    #[param(inline)]
    method: Option<Method>,
    /// Only this route, by its pattern; `unmatched` for paths that do not exist.
    #[param(value_type = Option<String>, pattern = "^(/[!-~]{0,199}|unmatched)$", example = "/orders/{id}")]
    route: Option<RoutePattern>,
    /// Only this status, or this class of status.
    #[param(value_type = Option<String>, pattern = "^([1-5][0-9]{2}|[1-5]xx)$", example = "5xx")]
    status: Option<StatusRange>,
    /// Only requests that began at this time or later.
    #[param(value_type = Option<DateTime<Utc>>)]
    from: Option<Moment>,
    /// Only requests that began before this time.
    #[param(value_type = Option<DateTime<Utc>>)]
    to: Option<Moment>,
    /// Only requests of this trace.
    #[param(value_type = Option<String>, pattern = "^[0-9a-f]{32}$", example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: Option<TraceId>,
    /// Read by [`Page`]; named here so that everything else is refused: a misspelt filter must not show everything.
    #[param(ignore)]
    #[serde(rename = "limit")]
    _limit: Option<IgnoredAny>,
    /// As `_limit`.
    #[param(ignore)]
    #[serde(rename = "after")]
    _after: Option<IgnoredAny>,
}

/// A request that was answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Line, example = json!({
    "id": "0190163d-8694-739b-aea5-966c26f8ad91",
    "at": "2026-11-23T09:10:11.120334Z",
    "service": "orders",
    "instance": "5f0f7c1e-3c1a-4b7e-9a55-0f6f1c7b1a11",
    "method": "GET",
    "route": "/orders/{id}",
    "status": 200,
    "duration_ms": 3.412,
    "request_bytes": null,
    "response_bytes": 512,
    "client_network": "192.0.2.0/24",
    "user_agent": "firefox",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
}))]
pub(crate) struct LineView {
    id: Uuid,
    /// When the request's head had arrived.
    at: DateTime<Utc>,
    /// Who answered.
    service: String,
    /// Which of its processes.
    instance: String,
    method: String,
    /// The pattern, or `unmatched`.
    route: String,
    /// 499 if the client went away before there was an answer.
    status: i16,
    /// To the last byte of the answer.
    duration_ms: f64,
    /// What the client said; null if it said nothing.
    request_bytes: Option<i64>,
    response_bytes: i64,
    /// The first 24 bits of the client's IPv4 address, or 48 of its IPv6 one. More is not known.
    client_network: Option<String>,
    /// The kind of client, such as `firefox`, `curl` or `other`; null if it did not say.
    user_agent: Option<String>,
    /// Where to look it up in the traces.
    trace_id: Option<String>,
}

impl From<Line> for LineView {
    fn from(line: Line) -> Self {
        Self {
            id: line.id,
            at: line.at,
            service: line.service,
            instance: line.instance,
            method: line.method,
            route: line.route,
            status: line.status,
            duration_ms: line.duration_us as f64 / 1_000.0,
            request_bytes: line.request_bytes,
            response_bytes: line.response_bytes,
            client_network: line.client_network,
            user_agent: line.user_agent,
            trace_id: line.trace_id,
        }
    }
}

/// Lists lines, newest first.
///
/// A line appears a moment after its request. Lines can be late: a page that was read may later have more lines.
#[utoipa::path(
    get, path = "/access-logs", tag = "access log", params(Wanted, Page), security(("bearer" = [])),
    responses(
        (status = 200, description = "A page of lines.", body = [LineView],
         headers(("Link" = String, description = "`rel=next`: the page after this one, if there is one."))),
        (status = 400, description = "A parameter is unknown or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "The access token is missing or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "Only operators may do this.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "There is too much to look at, or the database is away.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    _: Operator,
    wanted: Query<Wanted>,
    page: Page,
    request: HttpRequest,
    outbox: Data<Outbox>,
) -> Result<HttpResponse, Error> {
    let after = page.after::<Place>()?.map(Place::key);
    let Wanted { service, method, route, status, from, to, trace_id, .. } = wanted.into_inner();
    let filter = Filter {
        service: service.map(|ServiceName(name)| name),
        method: method.map(|method| method.as_str().to_owned()),
        route: route.map(|RoutePattern(pattern)| pattern),
        status: status.map(|StatusRange { lowest, highest }| (lowest, highest)),
        from: from.map(Moment::utc),
        to: to.map(Moment::utc),
        trace_id: trace_id.map(|TraceId(id)| id),
    };
    let mut db = outbox.begin().await?;
    super::within_limits(&mut db).await?;
    let mut found = filter.page(&mut db, after, page.limit() + 1).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, "private, no-cache"));
    if found.len() > usize::try_from(page.limit()).unwrap_or(usize::MAX) {
        found.pop();
        if let Some(last) = found.last() {
            response.insert_header(web::page::next_link(&request, &Place::of(last.at, last.id)?)?);
        }
    }
    Ok(response.json(found.into_iter().map(LineView::from).collect::<Vec<_>>()))
}
