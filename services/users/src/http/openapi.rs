//! The OpenAPI document: the routes, and what their failures look like. The examples of failures are made by the code that answers with them.

use std::time::Duration;

use actix_web::{ResponseError as _, body::MessageBody as _, http::StatusCode};
use serde_json::Value;
use utoipa::{
    IntoParams, OpenApi, ToResponse, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};
use web::{Problem, auth::AuthError};

use super::{email_verifications, keys, me, operators, password_resets, registration, sessions};
use crate::{
    error::{Error, Invalid},
    one_time_token::Link,
};

/// The whole document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "users",
        description = "Accounts, sessions and roles. Every failure is `application/problem+json` (RFC 9457) with a sentence that says what to do and the \
            `trace_id` of the request. Where an answer could tell whether an address has an account, it does not.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "accounts", description = "Registering, and one's own profile"),
        (name = "mailed links", description = "Proof of an address, and new passwords. The links work once"),
        (name = "sessions", description = "Login, renewal and logout"),
        (name = "operators", description = "For accounts with the role operator"),
        (name = "keys", description = "For services that check access tokens"),
    ),
    paths(
        registration::register, me::show, me::change, me::delete,
        email_verifications::request, email_verifications::page, email_verifications::verify,
        password_resets::request, password_resets::page, password_resets::put, password_resets::submit,
        sessions::login, sessions::renew, sessions::logout, sessions::end_one,
        operators::list, operators::give_role, keys::published,
    ),
    components(responses(
        Malformed, TooLarge, NotJson, InvalidFields, Unavailable, Unauthenticated, WrongCredentials, SessionEnded, WrongPassword, OperatorsOnly,
        NotFound, LastOperator, UnknownLink, DeadLink, VersionMoved, VersionMissing, TooManyAttempts, TooManyMails,
        TooManyRenewals,
    ))
)]
pub(crate) struct Document;

/// The token of a mailed link.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter")]
pub(crate) struct LinkToken {
    /// The last part of the mailed link
    #[param(example = "uPzXkTq0bC7w3tJc4n6s2mVhYd8RgAeLfIoKxWvB1ZE")]
    token: String,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what jsonwebtoken writes")]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

/// An Ed25519 key (RFC 8037).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what jsonwebtoken writes")]
pub(crate) struct Key {
    #[schema(example = "OKP")]
    kty: String,
    #[schema(example = "Ed25519")]
    crv: String,
    #[schema(example = "EdDSA")]
    alg: String,
    #[schema(example = "sig")]
    r#use: String,
    /// Of the header of the tokens that it signs.
    #[schema(example = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
    kid: String,
    /// The public key.
    #[schema(example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    x: String,
}

macro_rules! failures {
    ($($name:ident = $description:literal: $example:expr;)*) => {$(
        pub(crate) struct $name;

        impl<'r> ToResponse<'r> for $name {
            fn response() -> (&'r str, RefOr<Response>) {
                (stringify!($name), failure($description, &$example))
            }
        }
    )*};
}

failures! {
    Malformed = "The request cannot be understood": Problem::bad_request("Send well-formed JSON: EOF while parsing an object at line 1 column 1.");
    TooLarge = "The body is too large":
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large").detail("Send at most 262144 bytes.");
    NotJson = "The content type is not JSON":
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong content type")
            .detail("Send JSON, with the header `Content-Type: application/json`.");
    InvalidFields = "Fields are missing, unknown or cannot be used":
        Problem::from(&Invalid::field("/password", "A password has at least 12 characters. A few random words do well."));
    Unavailable = "Overloaded, or the database does not answer; come back after `Retry-After`":
        Problem::unavailable(Duration::from_secs(2), "Too many logins and registrations at once; try again in a moment.");
    Unauthenticated = "No access token, or one that is not accepted": Problem::from(AuthError::Expired);
    WrongCredentials = "The address or the password is wrong": Problem::from(&Error::WrongCredentials);
    SessionEnded = "The refresh token belongs to no living session": Problem::from(&Error::SessionEnded);
    WrongPassword = "The password that was sent again is wrong": Problem::from(&Error::WrongPassword);
    OperatorsOnly = "Not an operator": Problem::from(&Error::Forbidden);
    NotFound = "There is no such thing": Problem::from(&Error::NoSuchUser);
    LastOperator = "Nobody would remain to administer": Problem::from(&Error::LastOperator);
    UnknownLink = "There is no such link": Problem::from(&Error::DeadLink(Link::Unknown));
    DeadLink = "The link was used, was replaced by a newer one, has expired, or the password was changed since": Problem::from(&Error::DeadLink(Link::Expired));
    VersionMoved = "The profile has changed meanwhile": web::etag::moved();
    VersionMissing = "`If-Match` is missing": web::etag::missing();
    TooManyAttempts = "Too many failed attempts; come back after `Retry-After`": Problem::from(&Error::Throttled(Duration::from_secs(4)));
    TooManyMails = "Too many mails were asked for from this network; come back after `Retry-After`":
        Problem::from(&Error::TooManyMails(Duration::from_secs(300)));
    TooManyRenewals = "The session was renewed too often; the refresh token works again after `Retry-After`":
        Problem::from(&Error::TooManyRenewals(Duration::from_secs(300)));
}

fn failure(description: &str, problem: &Problem) -> RefOr<Response> {
    let body = problem.error_response().into_body().try_into_bytes().unwrap_or_default();
    let mut example: Value = serde_json::from_slice(&body).unwrap_or_default();
    example["trace_id"] = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example)).build();
    RefOr::T(ResponseBuilder::new().description(description).content("application/problem+json", content).build())
}
