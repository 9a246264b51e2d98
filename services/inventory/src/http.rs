//! The routes, and what they share. Each resource is in a file of its own under `http/`.

mod openapi;
mod products;
mod reservations;
mod stock;

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
    web::{Data, ServiceConfig, get, post, put, resource},
};
use messaging::Outbox;
use serde::Serialize;
use web::{auth::Verifier, etag};

pub(crate) use self::openapi::document;

/// The routes with what they need.
pub(crate) fn routes(verifier: Verifier, outbox: Outbox) -> impl Fn(&mut ServiceConfig) + Send + Sync + 'static {
    move |config| {
        config
            .app_data(Data::new(outbox.clone()))
            .app_data(verifier.clone())
            .service(resource("/products").route(get().to(products::list)))
            .service(resource("/products/{sku}").route(get().to(products::show)).route(put().to(products::put)))
            .service(resource("/products/{sku}/stock").route(get().to(stock::show)))
            .service(resource("/products/{sku}/restocks").route(post().to(stock::restock)))
            .service(resource("/reservations/{order_id}").route(get().to(reservations::show)));
    }
}

/// Who may keep a copy of an answer. All must ask whether it is still right.
#[derive(Clone, Copy)]
enum Copies {
    /// Everybody.
    Anybody,
    /// Only who asked.
    Asker,
}

impl Copies {
    fn header(self) -> (actix_web::http::header::HeaderName, &'static str) {
        match self {
            Self::Anybody => (CACHE_CONTROL, "public, no-cache"),
            Self::Asker => (CACHE_CONTROL, "private, no-cache"),
        }
    }
}

/// 200 with the body, or 304 if the asker has this version.
fn show(request: &actix_web::HttpRequest, version: i64, copies: Copies, body: impl Serialize) -> HttpResponse {
    let known = etag::is_known(request, version);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(etag::of(version)).insert_header(copies.header());
    if known { response.finish() } else { response.json(body) }
}

fn location(sku: &str) -> (actix_web::http::header::HeaderName, String) {
    (LOCATION, format!("/products/{sku}"))
}
