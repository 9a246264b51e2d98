//! The OpenAPI document: the routes, and what their failures look like. The examples of failures are made by the code that answers with them.

use std::time::Duration;

use actix_web::{ResponseError as _, body::MessageBody as _, http::StatusCode};
use serde_json::Value;
use utoipa::{
    OpenApi, ToResponse,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type, schema::SchemaType,
    },
};
use web::{Problem, auth::AuthError, etag};

use crate::{error::Error, state::Refusal};

/// The whole document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "payments",
        description = "What became of the money for an order, and giving it back. Taking it is no request: it follows when the goods of an order are \
            reserved. Every failure is `application/problem+json` (RFC 9457) with a sentence that says what to do and the `trace_id` of the request.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags((name = "payments", description = "One for each order whose goods were reserved")),
    paths(super::show, super::refund),
    components(responses(
        Malformed, Unauthenticated, OperatorsOnly, NotFound, TooSlow, NothingToRefund, VersionMoved, TooLarge, NotJson, InvalidFields,
        HeadTooLarge, Internal, Unavailable,
    ))
)]
pub(super) struct Document;

macro_rules! failures {
    ($($name:ident = $description:literal: $example:expr;)*) => {$(
        pub(super) struct $name;

        impl<'r> ToResponse<'r> for $name {
            fn response() -> (&'r str, RefOr<Response>) {
                (stringify!($name), failure($description, &$example))
            }
        }
    )*};
}

failures! {
    Malformed = "The order's id is no UUID, or the body is not JSON":
        Problem::bad_request("A part of the path is not valid (UUID parsing failed); use ids exactly as an answer gave them.");
    Unauthenticated = "No access token, or one that is not accepted": Problem::from(AuthError::Expired);
    OperatorsOnly = "Not an operator": Problem::forbidden("Only operators may do this; log in with an operator's account.");
    NotFound = "There is none, or it is somebody else's": Problem::from(&Error::NotFound);
    TooSlow = "The request did not arrive in time":
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive")
            .detail("Send the whole request without pausing, or split it into smaller ones.");
    NothingToRefund = "There is nothing to refund; `detail` says why": Problem::from(&Error::NothingToRefund(Refusal::NotDecided));
    VersionMoved = "It is not in the version that `If-Match` names": etag::moved();
    TooLarge = "The body is too large":
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large").detail("Send at most 262144 bytes.");
    NotJson = "There is a body, and its content type is not JSON":
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong content type")
            .detail("Send JSON, with the header `Content-Type: application/json`.");
    InvalidFields = "Members are unknown or cannot be used":
        Problem::unprocessable("The reason cannot be used; correct it, or leave it out.")
            .field("/reason", "must be text of 1 to 500 characters, none of them U+0000");
    HeadTooLarge = "The head of the request is too large":
        Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The head of the request is too large")
            .detail("Send fewer or shorter headers and a shorter path.");
    Internal = "Something went wrong on our side":
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
            .detail("Try again later; if it stays, report the trace_id of this answer.");
    Unavailable = "The database or the keys of access tokens cannot be had; come back after `Retry-After`":
        Problem::unavailable(Duration::from_secs(2), "The database does not answer; try again in a moment.");
}

/// A problem as it is answered: its headers and its body are those of the example.
fn failure(description: &str, problem: &Problem) -> RefOr<Response> {
    let answer = problem.error_response();
    let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build();
    let header = |means: &str| HeaderBuilder::new().schema(Some(text())).description(Some(means)).build();
    let mut response = ResponseBuilder::new()
        .description(description)
        .header("traceparent", header("The trace of this request (W3C Trace Context)"));
    for (name, means) in [
        ("WWW-Authenticate", "What is needed, and what is wrong with what was sent (RFC 6750)"),
        ("Retry-After", "Seconds after which to try again"),
    ] {
        if answer.headers().contains_key(name) {
            response = response.header(name, header(means));
        }
    }
    let body = answer.into_body().try_into_bytes().unwrap_or_default();
    let mut example: Value = serde_json::from_slice(&body).unwrap_or_default();
    example["trace_id"] = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example)).build();
    RefOr::T(response.content("application/problem+json", content).build())
}
