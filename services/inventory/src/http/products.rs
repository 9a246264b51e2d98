//! `/products`: what the shop sells.
#![expect(unused_qualifications, reason = "utoipa's expansion of `params` qualifies what is imported")]

use actix_web::{HttpRequest, HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use messaging::Outbox;
use money::Money;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::{IntoParams, ToSchema};
use web::{Json, Page, Path, Query, auth::Operator, etag};

use super::{Copies, location, openapi};
use crate::{
    error::{Answered, Error},
    price::Price,
    product::{self, Description, Name, Product},
    sku::{self, Sku},
};

/// A product.
#[derive(Serialize, ToSchema)]
#[schema(as = Product, example = json!({
    "sku": "MUG-01",
    "name": "Mug, blue",
    "price": {"minor_units": 1999, "currency": "EUR"},
    "available": 42,
    "version": 7,
    "updated_at": "2026-11-23T09:10:11.120Z"
}))]
struct ProductView {
    #[schema(schema_with = sku::schema)]
    sku: String,
    #[schema(schema_with = product::name_schema)]
    name: String,
    /// What one costs.
    price: Money,
    /// How many can be sold at this moment.
    #[schema(minimum = 0)]
    available: i64,
    /// Grows with every change, those of the stock too; also the ETag.
    #[schema(minimum = 1)]
    version: i64,
    updated_at: DateTime<Utc>,
}

impl From<Product> for ProductView {
    fn from(product: Product) -> Self {
        Self {
            price: product.price(),
            sku: product.sku,
            name: product.name,
            available: product.available,
            version: product.version,
            updated_at: product.updated_at,
        }
    }
}

/// What a product is called and costs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Mug, blue", "price": {"minor_units": 1999, "currency": "EUR"}}))]
pub(super) struct PutProduct {
    #[schema(schema_with = product::name_schema)]
    name: String,
    /// What one costs. The currency of a product that exists cannot change.
    price: Price,
}

impl PutProduct {
    fn check(self) -> Result<Description, Error> {
        match (Name::parse(self.name), self.price.check()) {
            (Ok(name), Ok(price)) => Ok(Description { name, price }),
            (name, price) => {
                let of_name = name.err().map(|fault| ("/name".to_owned(), fault));
                let of_price = price.err().unwrap_or_default();
                let of_price = of_price.into_iter().map(|(member, fault)| (format!("/price{member}"), fault));
                Err(Error::Invalid(of_name.into_iter().chain(of_price).collect()))
            }
        }
    }
}

/// The parameters that [`Page`] reads; named here so that everything else is refused: a filter that does not exist must not show everything.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {
    #[param(ignore)]
    #[serde(rename = "limit")]
    _limit: Option<IgnoredAny>,
    #[param(ignore)]
    #[serde(rename = "after")]
    _after: Option<IgnoredAny>,
}

/// List products
///
/// In the order of their SKUs, a page at a time.
#[utoipa::path(
    get, path = "/products", operation_id = "list_products", tag = "products", params(Page),
    responses(
        (status = 200, description = "A page of products", body = [ProductView], headers(
            ("Link" = String, description = "`rel=\"next\"`: the page after this one, if there is one"),
            ("Cache-Control" = String, description = "`public, no-cache`"),
        )),
        (status = 400, response = openapi::Malformed),
    )
)]
pub(super) async fn list(_: Query<Nothing>, page: Page, request: HttpRequest, outbox: Data<Outbox>) -> Answered {
    let after = page.after::<Sku>()?;
    let mut db = outbox.pool().acquire().await?;
    let mut found = Product::page(&mut db, after.as_ref(), page.limit() + 1).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header(Copies::Anybody.header());
    if found.len() > usize::try_from(page.limit()).unwrap_or(usize::MAX) {
        found.pop();
        if let Some(last) = found.last() {
            response.insert_header(web::page::next_link(&request, &last.sku)?);
        }
    }
    Ok(response.json(found.into_iter().map(ProductView::from).collect::<Vec<_>>()))
}

/// See a product
#[utoipa::path(
    get, path = "/products/{sku}", operation_id = "show_product", tag = "products", params(openapi::OfProduct, openapi::IfNoneMatch),
    responses(
        (status = 200, description = "The product", body = ProductView, headers(
            ("ETag" = String, description = "Its version"),
            ("Cache-Control" = String, description = "`public, no-cache`"),
        )),
        (status = 304, description = "You have this version", headers(("ETag" = String, description = "Its version"))),
        (status = 400, response = openapi::Malformed),
        (status = 404, response = openapi::NoProduct),
    )
)]
pub(super) async fn show(sku: Path<Sku>, request: HttpRequest, outbox: Data<Outbox>) -> Answered {
    let mut db = outbox.pool().acquire().await?;
    let product = Product::load(&mut db, &sku).await?.ok_or(Error::NoProduct)?;
    Ok(super::show(&request, product.version, Copies::Anybody, ProductView::from(product)))
}

/// Make a product, or change its name and price
///
/// A new product has no stock; restock it. `If-None-Match: *` makes a product only if there is none. `If-Match` with an ETag changes only
/// the version that was looked at. Orders change the stock, and with it the version: leave `If-Match` out to set name and price whatever
/// the stock is. Other services are told only if something is different afterwards.
#[utoipa::path(
    put, path = "/products/{sku}", operation_id = "put_product", tag = "products", security(("bearer" = [])), request_body = PutProduct,
    params(openapi::OfProduct, openapi::Conditions),
    responses(
        (status = 200, description = "It is described like this now", body = ProductView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 201, description = "It is made", body = ProductView, headers(
            ("ETag" = String, description = "Its version"),
            ("Location" = String, description = "Where it is"),
        )),
        (status = 400, response = openapi::Malformed),
        (status = 401, response = openapi::Unauthenticated),
        (status = 403, response = openapi::OperatorsOnly),
        (status = 409, response = openapi::CurrencyFixed),
        (status = 412, response = openapi::VersionMoved),
        (status = 413, response = openapi::TooLarge),
        (status = 415, response = openapi::NotJson),
        (status = 422, response = openapi::Invalid),
    )
)]
pub(super) async fn put(
    _: Operator,
    sku: Path<Sku>,
    request: HttpRequest,
    outbox: Data<Outbox>,
    Json(wanted): Json<PutProduct>,
) -> Answered {
    let wanted = wanted.check()?;
    let mut tx = outbox.begin().await?;
    let mut known = Product::lock(&mut tx, &sku).await?;
    if known.is_none() {
        // There is no version that If-Match could mean.
        if request.headers().contains_key("if-match") {
            return Err(etag::moved().into());
        }
        if let Some(product) = Product::create(&mut tx, &sku, &wanted).await? {
            tx.publish(&product.changed())?;
            tx.commit().await?;
            let mut response = HttpResponse::Created();
            response.insert_header(etag::of(product.version)).insert_header(location(&product.sku));
            return Ok(response.json(ProductView::from(product)));
        }
        // Another request made it at this moment.
        known = Product::lock(&mut tx, &sku).await?;
    }
    let mut product = known.ok_or(Error::NoProduct)?;
    preconditions(&request, product.version)?;
    if product.currency != wanted.price.currency {
        return Err(Error::CurrencyFixed { currency: product.currency }.into());
    }
    if !product.is(&wanted) {
        product.describe(&mut tx, wanted).await?;
        tx.publish(&product.changed())?;
    }
    tx.commit().await?;
    Ok(HttpResponse::Ok().insert_header(etag::of(product.version)).json(ProductView::from(product)))
}

/// RFC 9110 §13.2.2, for something that exists.
fn preconditions(request: &HttpRequest, version: i64) -> Result<(), Error> {
    etag::allow(request, version)?;
    if etag::is_known(request, version) { Err(Error::Exists) } else { Ok(()) }
}
