//! `POST /orders/{id}/cancellation`: the customer changes their mind. Whoever locks the order first decides, and the answer tells.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use failpoints::hit;
use uuid::Uuid;
use web::{
    Path,
    auth::{Identity, Role},
};

use super::{State, openapi, view::OrderView, visible};
use crate::{
    error::Error,
    order::Order,
    saga::{By, Fact, Reason},
};

/// Cancel an order
///
/// As long as it is `placed`, `reserved` or `paid`. What was held for it and paid for it goes back by itself. An order that was
/// cancelled already by its customer or by the shop gets the same answer again. When an operator does it, the customer is told that the shop did.
#[utoipa::path(
    post, path = "/orders/{id}/cancellation", tag = "orders", security(("bearer" = [])), params(openapi::OrderId, openapi::IfMatch),
    responses(
        (status = 202, description = "Cancelled. Stock and money follow", body = OrderView,
         headers(("ETag" = String, description = "The order's version"))),
        (status = 409, response = openapi::Final),
        (status = 412, response = openapi::VersionMoved),
        openapi::OfOneOrder,
    )
)]
pub(super) async fn cancel(
    identity: Identity,
    id: Path<Uuid>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    let mut tx = state.outbox.begin().await?;
    let mut order = visible(Order::lock(&mut tx, *id).await?, identity)?;
    if order.reason.is_some_and(Reason::is_wish) {
        return Ok(accepted(order));
    }
    // Before the version: a precondition does not turn one refusal into another (RFC 9110 §13.2.1).
    if order.state.is_final() {
        return Err(Error::Final(order.state, order.reason));
    }
    web::etag::allow(&request, order.version)?;
    let by = if identity.role == Role::Operator && identity.user_id != order.user_id { By::Shop } else { By::Customer };
    let detail = (by == By::Shop).then(|| "by an operator".to_owned());
    state.progress.advance(&mut tx, &mut order, Fact::CancellationRequested(by), detail).await?;
    hit("orders.cancelling").await.map_err(sqlx::Error::Io)?;
    tx.commit().await?;
    Ok(accepted(order))
}

fn accepted(order: Order) -> HttpResponse {
    HttpResponse::Accepted().insert_header(web::etag::of(order.version)).json(OrderView::from(order))
}
