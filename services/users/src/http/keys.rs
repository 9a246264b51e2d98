//! The public keys with which everybody can check access tokens (RFC 7517).

use actix_web::{HttpResponse, http::header, web::Data};

use super::State;

/// Get the keys of access tokens
///
/// A new key is here for an hour before it signs, and an old one until its last token has expired, so this can be cached.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "keys",
    responses((status = 200, description = "A JSON Web Key Set", body = super::openapi::KeySet))
)]
pub(crate) async fn published(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=300")).json(state.keys.published())
}
