//! Orders and their timelines, to read.
#![expect(unused_qualifications, reason = "utoipa's expansion of `params` qualifies what is imported")]

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web::Data};
use serde::{Deserialize, de::IgnoredAny};
use utoipa::IntoParams;
use uuid::Uuid;
use web::{Page, Path, Query, auth::Identity, page::Place};

use super::{State, load, openapi, reader, view::OrderView};
use crate::{error::Error, history::Entry, listing::Filter, saga};

/// Whoever keeps a copy asks whether it is still true.
const REVALIDATE: (actix_web::http::header::HeaderName, &str) = (CACHE_CONTROL, "private, no-cache");

/// Which orders to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only those in this state.
    state: Option<saga::State>,
    /// Only those of this person. Customers see their own in any case, and nobody else's.
    user_id: Option<Uuid>,
    /// Read by [`Page`]; named here so that everything else is refused: a misspelt filter must not show everything.
    #[param(ignore)]
    #[serde(rename = "limit")]
    _limit: Option<IgnoredAny>,
    /// As `_limit`.
    #[param(ignore)]
    #[serde(rename = "after")]
    _after: Option<IgnoredAny>,
}

/// List orders
///
/// Newest first: customers see their own, operators everybody's.
#[utoipa::path(
    get, path = "/orders", tag = "orders", params(Wanted, Page), security(("bearer" = [])),
    responses(
        (status = 200, description = "A page of orders", body = [OrderView],
         headers(("Link" = Option<String>, description = "`rel=\"next\"`: the page after this one, if there is one"))),
        openapi::Always,
    )
)]
pub(super) async fn list(
    identity: Identity,
    wanted: Query<Wanted>,
    page: Page,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    let after = page.after::<Place>()?.map(Place::key);
    let filter = Filter { reader: reader(identity), user_id: wanted.user_id, state: wanted.state };
    let mut db = state.outbox.pool().acquire().await?;
    let mut found = filter.page(&mut db, after, page.limit() + 1).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header(REVALIDATE);
    if found.len() > usize::try_from(page.limit()).unwrap_or(usize::MAX) {
        found.pop();
        if let Some(last) = found.last() {
            response.insert_header(web::page::next_link(&request, &Place::of(last.placed_at, last.id)?)?);
        }
    }
    Ok(response.json(found.into_iter().map(OrderView::from).collect::<Vec<_>>()))
}

/// Show an order
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", security(("bearer" = [])), params(openapi::OrderId, openapi::IfNoneMatch),
    responses(
        (status = 200, description = "The order", body = OrderView, headers(("ETag" = String, description = "Its version"))),
        (status = 304, description = "You have the current version", headers(("ETag" = String, description = "Its version"))),
        openapi::OfOneOrder,
    )
)]
pub(super) async fn show(
    identity: Identity,
    id: Path<Uuid>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    let mut db = state.outbox.pool().acquire().await?;
    let order = load(&mut db, *id, identity).await?;
    let (tag, known) = (web::etag::of(order.version), web::etag::is_known(&request, order.version));
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(tag).insert_header(REVALIDATE);
    Ok(if known { response.finish() } else { response.json(OrderView::from(order)) })
}

/// Show what happened to an order
///
/// Oldest first. The last entry's `seq` is the order's version.
#[utoipa::path(
    get, path = "/orders/{id}/timeline", tag = "orders", security(("bearer" = [])),
    params(openapi::OrderId, openapi::IfNoneMatch),
    responses(
        (status = 200, description = "Everything that happened to it so far", body = [Entry],
         headers(("ETag" = String, description = "The order's version"))),
        (status = 304, description = "Nothing has happened since", headers(("ETag" = String, description = "The order's version"))),
        openapi::OfOneOrder,
    )
)]
pub(super) async fn timeline(
    identity: Identity,
    id: Path<Uuid>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    let mut db = state.outbox.pool().acquire().await?;
    load(&mut db, *id, identity).await?;
    let entries = Entry::after(&mut db, *id, 0).await?;
    // Of what is shown: since the order was loaded, something may have happened.
    let version = entries.last().map_or(0, |entry| entry.seq);
    let known = web::etag::is_known(&request, version);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(web::etag::of(version)).insert_header(REVALIDATE);
    Ok(if known { response.finish() } else { response.json(entries) })
}
