//! The OpenAPI document: the routes, what they are told, and what their failures look like. The examples of failures are made by the code
//! that answers with them.

use std::time::Duration;

use actix_web::{ResponseError as _, body::MessageBody as _, http::StatusCode};
use serde_json::Value;
use utoipa::{
    IntoParams, Modify, OpenApi, ToResponse,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder, path::Operation,
        schema::Type,
    },
};
use web::{Problem, auth::AuthError};

use super::{products, reservations, stock};
use crate::error::Error;

/// The document at `/openapi.json`.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "inventory",
        description = "Products, prices, stock, and what is held for orders. Every failure is `application/problem+json` (RFC 9457) with a \
            sentence that says what to do and the `trace_id` of the request.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "products", description = "What the shop sells. Everybody may look, operators may change"),
        (name = "stock", description = "How much there is of it, for operators"),
        (name = "reservations", description = "What became of orders here, for their customers and for operators"),
    ),
    paths(products::list, products::show, products::put, stock::show, stock::restock, reservations::show),
    components(responses(
        Malformed, Unauthenticated, OperatorsOnly, NoProduct, NoReservation, TooSlow, CurrencyFixed, InFlight, VersionMoved, TooLarge, NotJson,
        Invalid, HeadTooLarge, OurFault, Unavailable,
    )),
    modifiers(&Everywhere)
)]
struct Document;

/// The product.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct OfProduct {
    /// The shop's name for the product
    #[param(pattern = "^[A-Z0-9][A-Z0-9-]{0,31}$", min_length = 1, max_length = 32, example = "MUG-01")]
    sku: String,
}

/// What the asker has.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct IfNoneMatch {
    /// The ETag of what you have; if it is still right, the answer is 304
    #[param(rename = "If-None-Match", nullable = false, example = "\"7\"")]
    if_none_match: Option<String>,
}

/// On which condition something is put.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct Conditions {
    /// The ETag of the version that is to be changed; if it is another one by now, the answer is 412
    #[param(rename = "If-Match", nullable = false, example = "\"7\"")]
    if_match: Option<String>,
    /// `*`: only if there is no such product; else the answer is 412
    #[param(rename = "If-None-Match", nullable = false, example = "*")]
    if_none_match: Option<String>,
}

/// The name of a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct IdempotencyKey {
    /// A name for this request that you never used before, such as a random UUID; the same one when you repeat it
    #[param(
        rename = "Idempotency-Key",
        pattern = "^[!-~]+$",
        min_length = 1,
        max_length = 255,
        example = "7c1f9f2e-3b0a-4f0e-9a53-6a1f0f6f8f10"
    )]
    idempotency_key: String,
}

macro_rules! failures {
    ($($name:ident = $description:literal, $headers:expr, $example:expr;)*) => {$(
        pub(super) struct $name;

        impl<'r> ToResponse<'r> for $name {
            fn response() -> (&'r str, RefOr<Response>) {
                (stringify!($name), failure($description, &$headers, &Problem::from($example)))
            }
        }
    )*};
}

const RETRY_AFTER: (&str, &str) = ("Retry-After", "Seconds until it is worth another try");
const CHALLENGE: (&str, &str) = ("WWW-Authenticate", "The challenge of RFC 6750");

failures! {
    Malformed = "A parameter, a header or the body cannot be understood", [],
        Problem::bad_request("A part of the path is not valid (a SKU is 1 to 32 capital letters, digits and hyphens, and does not begin with a hyphen); use ids exactly as an answer gave them.");
    Unauthenticated = "No access token, or one that is not accepted", [CHALLENGE], AuthError::Expired;
    OperatorsOnly = "Not an operator", [], Problem::forbidden("Only operators may do this; log in with an operator's account.");
    NoProduct = "There is no such product", [], Error::NoProduct;
    NoReservation = "There is none, or it is somebody else's", [], Error::NoReservation;
    TooSlow = "The request took too long to arrive", [],
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive")
            .detail("Send the whole request without pausing, or split it into smaller ones.");
    CurrencyFixed = "The price is in another currency than before", [], Error::CurrencyFixed { currency: "EUR".into() };
    InFlight = "A request with this key is being worked on", [RETRY_AFTER], idempotency::Error::InFlight;
    VersionMoved = "It is not in the version that `If-Match` names, or exists although `If-None-Match` says it must not", [], web::etag::moved();
    TooLarge = "The body is too large", [],
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large").detail("Send at most 262144 bytes.");
    NotJson = "The body is not declared as JSON", [("Accept", "`application/json`")],
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong content type")
            .detail("Send JSON, with the header `Content-Type: application/json`.");
    Invalid = "Members of the body are missing, unknown or cannot be used, or the idempotency key was used for another request", [],
        Error::Invalid(vec![("/price/minor_units".into(), "must be from 1 to 1000000000000")]);
    HeadTooLarge = "Path, query and headers are too large", [],
        Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The head of the request is too large")
            .detail("Send fewer or shorter headers and a shorter path.");
    OurFault = "Something went wrong on our side", [],
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
            .detail("Try again later; if it stays, report the trace_id of this answer.");
    Unavailable = "The database does not answer, or nobody's access token can be verified at the moment", [RETRY_AFTER],
        Problem::unavailable(Duration::from_secs(2), "The database does not answer; try again in a moment.");
}

fn failure(description: &str, headers: &[(&str, &str)], problem: &Problem) -> RefOr<Response> {
    let body = problem.error_response().into_body().try_into_bytes().unwrap_or_default();
    let mut example: Value = serde_json::from_slice(&body).unwrap_or_default();
    example["trace_id"] = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example)).build();
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content);
    let response = headers.iter().fold(response, |response, (name, what)| response.header(*name, header(what)));
    RefOr::T(response.build())
}

fn header(description: &str) -> utoipa::openapi::Header {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

/// What can happen on every route, and what every answer carries.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            for (status, name) in
                [("408", "TooSlow"), ("431", "HeadTooLarge"), ("500", "OurFault"), ("503", "Unavailable")]
            {
                let response = RefOr::Ref(Ref::from_response_name(name));
                operation.responses.responses.insert(status.to_owned(), response);
            }
            operation.responses.responses.values_mut().for_each(traced);
        }
        if let Some(components) = &mut document.components {
            components.responses.values_mut().for_each(traced);
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.put, &mut path.post].into_iter().flatten()
}

fn traced(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let trace = header("The trace of the request (W3C Trace Context)");
        response.headers.insert("traceparent".to_owned(), trace.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// The parameter's pattern is written as a literal, because the macro takes nothing else.
    #[test]
    fn a_sku_is_documented_alike_everywhere() {
        let document = serde_json::to_value(super::document()).unwrap();
        let expected = serde_json::to_value(crate::sku::schema()).unwrap();
        let mut seen = 0;
        let parameters =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        for parameter in parameters.flat_map(|operation| operation["parameters"].as_array().into_iter().flatten()) {
            if parameter["name"] == "sku" {
                for bound in ["type", "pattern", "minLength", "maxLength"] {
                    assert_eq!(parameter["schema"][bound], expected[bound], "{bound}");
                    assert_ne!(expected[bound], Value::Null, "{bound}");
                }
                seen += 1;
            }
        }
        assert_eq!(seen, 4);
    }
}
