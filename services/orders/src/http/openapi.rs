//! The OpenAPI document: the routes, and what their failures look like. The examples of failures are made by the code that answers with
//! them.

use std::collections::BTreeMap;

use actix_web::{ResponseError as _, body::MessageBody as _, http::StatusCode};
use money::Money;
use serde_json::Value;
use utoipa::{
    IntoParams, IntoResponses, Modify, OpenApi, PartialSchema as _, ToResponse,
    openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder, Schema, schema::AdditionalProperties},
};
use uuid::Uuid;
use web::{Problem, auth::AuthError};

use super::{cancelling, placing, reading, stream, view};
use crate::{
    error::Error,
    history::Entry,
    placing::{PlaceOrder, WantedLine, Wrong},
    saga::{Reason, State},
};

/// The whole document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "orders",
        description = "Orders: placing, following and cancelling them. Every failure is `application/problem+json` (RFC 9457) with a \
            sentence that says what to do and the `trace_id` of the request.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags((name = "orders", description = "Customers see their own orders, operators everybody's. Somebody else's order does not exist")),
    paths(placing::place, reading::list, reading::show, cancelling::cancel, reading::timeline, stream::stream),
    components(
        schemas(view::OrderView, view::LineView, Entry, Money, PlaceOrder, WantedLine, State, Reason),
        responses(
            Malformed, Unauthenticated, Unverified, NotFound, TooSlow, InFlight, Final, VersionMoved, TooLarge, NotJson,
            CannotBeOrdered, TooManyOwnStreams, TooManyOrders, TooLongHead, Failed, Unavailable,
        )
    ),
    modifiers(&Closed)
)]
pub(crate) struct Document;

/// Requests have no other members than those that are named.
struct Closed;

impl Modify for Closed {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let Some(components) = openapi.components.as_mut() else { return };
        for name in ["PlaceOrder", "WantedLine"] {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
                object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
}

/// Which order.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct OrderId {
    /// The order, as the answer to placing it named it
    #[param(example = "0190163d-8694-739b-aea5-966c26f8ad91")]
    id: Uuid,
}

/// The name of a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct IdempotencyKey {
    /// A name for this request that you never used before, such as a random UUID; the same one when you repeat the request. It is remembered for
    /// a day: what is repeated later is another request
    #[param(
        rename = "Idempotency-Key",
        example = "7c1f9f2e-3b0a-4f0e-9a53-6a1f0f6f8f10",
        pattern = "^[!-~]{1,255}$",
        min_length = 1,
        max_length = 255
    )]
    key: String,
}

/// A version that the asker has.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct IfNoneMatch {
    /// The ETag of what you have
    #[param(rename = "If-None-Match", example = "\"3\"")]
    tag: Option<String>,
}

/// A version that a change is for.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct IfMatch {
    /// The ETag of the order as you saw it: if something has happened since, nothing is done
    #[param(rename = "If-Match", example = "\"3\"")]
    tag: Option<String>,
}

/// Where the last stream ended.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a parameter")]
pub(super) struct LastEventId {
    /// The `id` of the last event that came: the stream goes on after it
    #[param(rename = "Last-Event-ID", example = 2, minimum = 0, maximum = 4294967295_u32)]
    seq: Option<u32>,
}

/// What every route can answer.
pub(super) struct Always;

/// What every route of one order can answer.
pub(super) struct OfOneOrder;

impl IntoResponses for Always {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let failures = [
            (400, Malformed::response().0),
            (401, Unauthenticated::response().0),
            (408, TooSlow::response().0),
            (413, TooLarge::response().0),
            (431, TooLongHead::response().0),
            (500, Failed::response().0),
            (503, Unavailable::response().0),
        ];
        failures.map(|(status, name)| (status.to_string(), Ref::from_response_name(name).into())).into()
    }
}

impl IntoResponses for OfOneOrder {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Always::responses();
        responses.insert("404".into(), Ref::from_response_name(NotFound::response().0).into());
        responses
    }
}

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
    Malformed = "The request cannot be understood": Problem::bad_request("A part of the path is not valid; use ids exactly as an answer gave them.");
    Unauthenticated = "No access token, or one that is not accepted": Problem::from(AuthError::Expired);
    Unverified = "The address of the account is not verified, or the account was deleted": Problem::from(&Error::Unverified);
    NotFound = "There is no such order, or it is somebody else's": Problem::from(&Error::NotFound);
    TooSlow = "The body came too slowly":
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive").detail("Send the whole request without pausing, or split it into smaller ones.");
    InFlight = "A request with this Idempotency-Key is being worked on": Problem::from(idempotency::Error::InFlight);
    Final = "The order is final": Problem::from(&Error::Final(State::Confirmed, None));
    VersionMoved = "Something has happened to it since": web::etag::moved();
    TooLarge = "The body is too large":
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large").detail("Send at most 262144 bytes.");
    NotJson = "The content type is not JSON":
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong content type")
            .detail("Send JSON, with the header `Content-Type: application/json`.");
    CannotBeOrdered = "Members are missing, unknown or not valid, or the key was used for another request":
        Problem::from(&Error::Invalid(vec![Wrong { pointer: "/lines/0/quantity".into(), detail: "must be from 1 to 1000".into() }]));
    TooManyOwnStreams = "You have too many streams open; close one, or come back after `Retry-After`": Problem::from(&Error::TooManyOwnStreams);
    TooManyOrders = "You have too many orders under way, or placed too many within an hour; come back after `Retry-After`":
        Problem::from(&Error::TooManyOpenOrders);
    TooLongHead = "The head of the request is too large":
        Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The head of the request is too large")
            .detail("Send fewer or shorter headers and a shorter path.");
    Failed = "A mistake of ours":
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side").detail("Try again later; if it stays, report the trace_id of this answer.");
    Unavailable = "Overloaded, or something that is needed does not answer; come back after `Retry-After`": Problem::from(&Error::TooManyStreams);
}

/// A failure with the problem and the headers that it is answered with.
fn failure(description: &str, problem: &Problem) -> RefOr<Response> {
    let answer = problem.error_response();
    let mut response = ResponseBuilder::new().description(description);
    for (name, meaning) in
        [("retry-after", "After how many seconds to come back"), ("www-authenticate", "What is missing (RFC 6750)")]
    {
        if answer.headers().contains_key(name) {
            let name = if name == "retry-after" { "Retry-After" } else { "WWW-Authenticate" };
            let mut header = Header::new(String::schema());
            header.description = Some(meaning.to_owned());
            response = response.header(name, header);
        }
    }
    let body = answer.into_body().try_into_bytes().unwrap_or_default();
    let mut example: Value = serde_json::from_slice(&body).unwrap_or_default();
    example["trace_id"] = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example)).build();
    RefOr::T(response.content("application/problem+json", content).build())
}
