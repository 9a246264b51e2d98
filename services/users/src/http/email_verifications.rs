//! Proof of an address: a link is mailed, its page has one button, and the button verifies.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use events::users::v1::UserVerified;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{ClientAddr, Json, Path};

use super::{State, pages, registration::Accepted};
use crate::{
    email::Email,
    error::{Error, Invalid},
    one_time_token::{self, Link, Mail, Purpose},
    token::TokenHash,
    user,
};

/// For whom a link is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MailTo {
    /// The address of the account.
    #[schema(example = "ada@example.org", format = Email, max_length = 254)]
    email: String,
}

impl MailTo {
    pub(super) fn address(&self) -> Result<Email, Error> {
        Email::parse(&self.email).map_err(|message| Invalid::field("/email", message))
    }
}

/// The address is proved.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verified {
    /// For people.
    #[schema(example = "Thank you. Your address is confirmed.")]
    message: &'static str,
}

/// Ask for another verification mail
///
/// Always answers the same, whether the address has an account or not. A mail is sent if it has one that is not verified yet, at most one a minute, and after ten of a day one an hour; its link
/// replaces the older ones.
#[utoipa::path(
    post, path = "/email-verifications", tag = "mailed links", request_body = MailTo,
    responses(
        (status = 202, description = "Taken", body = Accepted),
        (status = 400, response = super::openapi::Malformed),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 429, response = super::openapi::TooManyMails),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn request(
    state: Data<State>,
    client: ClientAddr,
    Json(request): Json<MailTo>,
) -> Result<HttpResponse, Error> {
    let since = Instant::now();
    let email = request.address()?;
    state.count_mail_request(client).await?;
    let mut tx = state.outbox.begin().await?;
    if one_time_token::may_mail(&mut tx, &email, Mail::VerifyEmail).await?
        && let Some(id) = user::awaiting_verification(&mut tx, &email).await?
    {
        let issued = one_time_token::issue(&mut tx, id, Purpose::VerifyEmail).await?;
        tx.publish(&issued.verification_requested())?;
    }
    tx.commit().await?;
    Ok(Accepted::answer(since, "If there is something to verify, we have sent a mail to this address.").await)
}

/// Open the mailed link
///
/// A page with one button. Opening it changes nothing, because mail scanners open every link.
#[utoipa::path(
    get, path = "/email-verifications/{token}", tag = "mailed links", params(super::openapi::LinkToken),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 404, response = super::openapi::UnknownLink),
        (status = 410, response = super::openapi::DeadLink),
    )
)]
pub(crate) async fn page(
    state: Data<State>,
    Path(token): Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let token = TokenHash::of_presented(&token);
    match one_time_token::look_at(&mut *state.read().await?, token, Purpose::VerifyEmail).await? {
        Link::Open(_) => pages::html(StatusCode::OK, &pages::VerifyEmail::new()),
        dead => pages::failure(&request, Error::DeadLink(dead)),
    }
}

/// Verify the address
///
/// What the button of the page does. Answers with a page if HTML is preferred, with JSON otherwise.
#[utoipa::path(
    post, path = "/email-verifications/{token}", tag = "mailed links", params(super::openapi::LinkToken),
    responses(
        (status = 200, description = "The address is verified", content(
            (Verified = "application/json"),
            (String = "text/html"),
        )),
        (status = 404, response = super::openapi::UnknownLink),
        (status = 410, response = super::openapi::DeadLink),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn verify(
    state: Data<State>,
    Path(token): Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    if let Err(error) = redeem(&state, TokenHash::of_presented(&token)).await {
        return pages::failure(&request, error);
    }
    let message = "Thank you. Your address is confirmed.";
    if pages::wants_html(&request) {
        pages::html(StatusCode::OK, &pages::Message { title: message, text: "You can close this page." })
    } else {
        Ok(HttpResponse::Ok().json(Verified { message }))
    }
}

async fn redeem(state: &State, token: Option<TokenHash>) -> Result<(), Error> {
    let mut tx = state.outbox.begin().await?;
    let user_id = match one_time_token::redeem(&mut tx, token, Purpose::VerifyEmail).await? {
        Link::Open(user_id) => user_id,
        dead => return Err(Error::DeadLink(dead)),
    };
    if user::mark_verified(&mut tx, user_id).await? {
        tx.publish(&UserVerified { user_id: user_id.to_string() })?;
    }
    tx.commit().await?;
    Ok(())
}
