//! `/products/{sku}/stock` and `/products/{sku}/restocks`: how much there is of a product, for operators.

use actix_web::{
    HttpRequest,
    http::{
        StatusCode,
        header::{ETAG, LOCATION},
    },
    web::Data,
};
use chrono::{DateTime, Utc};
use idempotency::{Answer, Begun, Fingerprint, Key};
use messaging::Outbox;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{
    Json, Path,
    auth::{Identity, Operator},
    etag,
};

use super::{Copies, openapi};
use crate::{
    error::{Answered, Error},
    metrics,
    sku::{self, Sku},
    stock::{Restocked, Stock},
};

/// The most pieces that come in at once.
const MAX_QUANTITY: u32 = 1_000_000;

/// How much there is of a product, and where. `available + reserved + sold = received`, at every moment.
#[derive(Serialize, ToSchema)]
#[schema(as = Stock, example = json!({
    "sku": "MUG-01",
    "available": 42,
    "reserved": 3,
    "sold": 55,
    "received": 100,
    "version": 7,
    "updated_at": "2026-11-23T09:10:11.120Z"
}))]
struct StockView {
    #[schema(schema_with = sku::schema)]
    sku: String,
    /// Free to be sold.
    #[schema(minimum = 0)]
    available: i64,
    /// Held for orders that are not paid yet.
    #[schema(minimum = 0)]
    reserved: i64,
    /// The customers'.
    #[schema(minimum = 0)]
    sold: i64,
    /// Everything that ever came in.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991i64)]
    received: i64,
    /// Grows with every change; also the ETag.
    #[schema(minimum = 1)]
    version: i64,
    updated_at: DateTime<Utc>,
}

impl From<Stock> for StockView {
    fn from(stock: Stock) -> Self {
        let Stock { sku, available, reserved, sold, received, version, updated_at } = stock;
        Self { sku, available, reserved, sold, received, version, updated_at }
    }
}

/// Pieces that came in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"quantity": 100}))]
pub(super) struct Restock {
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: u32,
}

/// See how much there is of a product
#[utoipa::path(
    get, path = "/products/{sku}/stock", operation_id = "show_stock", tag = "stock", security(("bearer" = [])),
    params(openapi::OfProduct, openapi::IfNoneMatch),
    responses(
        (status = 200, description = "The stock", body = StockView, headers(
            ("ETag" = String, description = "Its version"),
            ("Cache-Control" = String, description = "`private, no-cache`"),
        )),
        (status = 304, description = "You have this version", headers(("ETag" = String, description = "Its version"))),
        (status = 400, response = openapi::Malformed),
        (status = 401, response = openapi::Unauthenticated),
        (status = 403, response = openapi::OperatorsOnly),
        (status = 404, response = openapi::NoProduct),
    )
)]
pub(super) async fn show(_: Operator, sku: Path<Sku>, request: HttpRequest, outbox: Data<Outbox>) -> Answered {
    let mut db = outbox.pool().acquire().await?;
    let stock = Stock::load(&mut db, &sku).await?.ok_or(Error::NoProduct)?;
    Ok(super::show(&request, stock.version, Copies::Asker, StockView::from(stock)))
}

/// Add pieces that came in
///
/// Repeat the request with the same key if no answer came: the pieces are counted once, and the first answer is given again.
#[utoipa::path(
    post, path = "/products/{sku}/restocks", operation_id = "restock", tag = "stock", security(("bearer" = [])), request_body = Restock,
    params(openapi::OfProduct, openapi::IdempotencyKey),
    responses(
        (status = 201, description = "They are there", body = StockView, headers(
            ("ETag" = String, description = "The version of the stock"),
            ("Location" = String, description = "Where the stock is"),
            ("Idempotency-Replayed" = String, description = "`true` if this answer was given before"),
        )),
        (status = 400, response = openapi::Malformed),
        (status = 401, response = openapi::Unauthenticated),
        (status = 403, response = openapi::OperatorsOnly),
        (status = 404, response = openapi::NoProduct),
        (status = 409, response = openapi::InFlight),
        (status = 413, response = openapi::TooLarge),
        (status = 415, response = openapi::NotJson),
        (status = 422, response = openapi::Invalid),
    )
)]
pub(super) async fn restock(
    Operator(Identity { user_id, .. }): Operator,
    sku: Path<Sku>,
    key: Key,
    outbox: Data<Outbox>,
    Json(restock): Json<Restock>,
) -> Answered {
    if !(1..=MAX_QUANTITY).contains(&restock.quantity) {
        return Err(Error::Invalid(vec![("/quantity".to_owned(), "must be from 1 to 1000000")]).into());
    }
    let request = Fingerprint::of(&("restock", &*sku, &restock));
    let mut tx = outbox.begin().await?;
    let pending = match idempotency::begin(&mut tx, user_id, &key, &request).await? {
        Begun::Again(answer) => return Ok(answer.into_response()),
        Begun::New(pending) => pending,
    };
    let trace_id = telemetry::current_trace_id();
    let stock = match Stock::receive(&mut tx, &sku, restock.quantity.into(), trace_id.as_deref()).await? {
        Restocked::Done(stock) => stock,
        Restocked::TooMuch => return Err(Error::TooMuch.into()),
        Restocked::NoProduct => return Err(Error::NoProduct.into()),
    };
    let answer = Answer::new(StatusCode::CREATED)
        .header(LOCATION, format!("/products/{}/stock", stock.sku))
        .header(ETAG, etag::of(stock.version))
        .json(&StockView::from(stock))?;
    pending.store(&mut tx, &answer).await?;
    tx.commit().await?;
    metrics::received(restock.quantity);
    Ok(answer.into_response())
}
