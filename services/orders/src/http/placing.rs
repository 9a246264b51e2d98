//! `POST /orders`: takes an order. What comes of it comes later, in its timeline.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{ETAG, LOCATION},
    },
    web::Data,
};
use failpoints::{hit, without};
use idempotency::{Answer, Begun, Fingerprint, Key};
use sqlx::PgConnection;
use web::{Json, auth::Identity};

use super::{State, openapi, view::OrderView};
use crate::{
    config::CustomerOptions, customer::Customer, error::Error, order::NewOrder, placing::PlaceOrder, product::Product,
};

/// Place an order
///
/// For customers whose address is verified. The prices are the shop's at this moment. The order is taken, not yet complete: follow it with
/// its timeline or its stream. Repeat the request with the same `Idempotency-Key` if no answer came: there will be one order.
#[utoipa::path(
    post, path = "/orders", tag = "orders", request_body = PlaceOrder, security(("bearer" = [])), params(openapi::IdempotencyKey),
    responses(
        (status = 202, description = "Taken. Stock and payment follow", body = OrderView,
         headers(
            ("Location" = String, description = "The order"),
            ("ETag" = String, description = "The order's version"),
            ("Idempotency-Replayed" = Option<String>, description = "`true` if this is the stored answer to an earlier request"),
         )),
        (status = 403, response = openapi::Unverified),
        (status = 409, response = openapi::InFlight),
        (status = 415, response = openapi::NotJson),
        (status = 422, response = openapi::CannotBeOrdered),
        (status = 429, response = openapi::TooManyOrders),
        openapi::Always,
    )
)]
pub(super) async fn place(
    identity: Identity,
    key: Key,
    wanted: Json<PlaceOrder>,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    let wanted = wanted.into_inner();
    wanted.check().map_err(Error::Invalid)?;
    let request = Fingerprint::of(&("POST /orders", &wanted));
    let mut tx = state.outbox.begin().await?;
    let pending = match idempotency::begin(&mut tx, identity.user_id, &key, &request).await? {
        Begun::Again(answer) => return Ok(answer.into_response()),
        Begun::New(pending) => pending,
    };
    // Whatever is refused from here on rolls back, the key included: the request may be right the next time.
    let order = admit(&mut tx, identity, wanted, state.limits).await?;
    let order = state.progress.begin(&mut tx, order).await?;
    hit("orders.before_answer").await.map_err(sqlx::Error::Io)?;
    let answer = Answer::new(StatusCode::ACCEPTED)
        .header(LOCATION, format!("/orders/{}", order.id))
        .header(ETAG, web::etag::of(order.version).0)
        .json(&OrderView::from(order))?;
    if without("answer-in-transaction") {
        let mut own = state.outbox.begin().await?;
        pending.store(&mut own, &answer).await?;
        own.commit().await?;
        tx.commit().await?;
        return Ok(answer.into_response());
    }
    pending.store(&mut tx, &answer).await?;
    if without("answer-after-commit") {
        actix_web::rt::spawn(tx.commit());
        return Ok(answer.into_response());
    }
    tx.commit().await?;
    Ok(answer.into_response())
}

/// The order at today's prices, if this customer may order and everything in it can be ordered.
async fn admit(
    db: &mut PgConnection,
    identity: Identity,
    wanted: PlaceOrder,
    limits: CustomerOptions,
) -> Result<NewOrder, Error> {
    let customer = Customer::ordering(db, identity.user_id, limits).await?;
    if customer.deleted {
        return Err(Error::AccountDeleted);
    }
    // Either may know it first: the token is older than the proof, or our copy of the event is.
    if !(identity.verified || customer.verified) {
        return Err(Error::Unverified);
    }
    // Everybody's orders wait in the same lines, and must not wait for somebody's ten thousand.
    let max_open = limits.max_open_orders_per_customer;
    if max_open > 0 && customer.open_orders >= i64::from(max_open) {
        return Err(Error::TooManyOpenOrders);
    }
    if let Some(pause) = customer.pause.filter(|pause| limits.max_orders_per_customer_and_hour > 0 && *pause > 0.0) {
        return Err(Error::TooManyOrders(Duration::from_secs_f64(pause)));
    }
    let products = Product::find(db, &wanted.skus()).await?;
    wanted.price(identity.user_id, &products).map_err(Error::Invalid)
}
