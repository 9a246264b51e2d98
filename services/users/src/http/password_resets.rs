//! A new password for somebody who has lost the old one: a link is mailed, and whoever follows it chooses.

use std::time::Instant;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Form},
};
use events::users::v1::{PasswordChanged, UserVerified};
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use web::{ClientAddr, Json, Path};

use super::{State, email_verifications::MailTo, pages, registration::Accepted};
use crate::{
    error::{Error, Invalid},
    one_time_token::{self, Link, Mail, Purpose},
    password::Password,
    session, throttle,
    token::TokenHash,
    user,
};

/// The new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// Not a common one, and without the name or address in it.
    #[schema(value_type = String, example = "quiet-otter-sings-42", format = Password, min_length = 12, max_length = 128)]
    password: SecretString,
}

/// Ask for a new password
///
/// Always answers the same, whether the address has an account or not. A mail is sent if it has one, at most one a minute, and after ten of a day one an hour; its link works for an hour
/// and replaces the older ones.
#[utoipa::path(
    post, path = "/password-resets", tag = "mailed links", request_body = MailTo,
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
    if one_time_token::may_mail(&mut tx, &email, Mail::ResetPassword).await?
        && let Some(account) = user::credentials_by_email(&mut tx, &email).await?
    {
        let issued = one_time_token::issue(&mut tx, account.user_id, Purpose::ResetPassword).await?;
        tx.publish(&issued.reset_requested())?;
    }
    tx.commit().await?;
    Ok(Accepted::answer(since, "If the address has an account, we have sent a mail to it.").await)
}

/// Open the mailed link
///
/// A page with a form for the new password. Opening it changes nothing.
#[utoipa::path(
    get, path = "/password-resets/{token}", tag = "mailed links", params(super::openapi::LinkToken),
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
    match one_time_token::look_at(&mut *state.read().await?, token, Purpose::ResetPassword).await? {
        Link::Open(_) => pages::html(StatusCode::OK, &pages::ResetPassword::new(None)),
        dead => pages::failure(&request, Error::DeadLink(dead)),
    }
}

/// Set the new password
///
/// Ends every session of the account. It also verifies the address, since only its owner has the link.
#[utoipa::path(
    put, path = "/password-resets/{token}", tag = "mailed links", params(super::openapi::LinkToken), request_body = NewPassword,
    responses(
        (status = 204, description = "The password is set; log in with it"),
        (status = 400, response = super::openapi::Malformed),
        (status = 404, response = super::openapi::UnknownLink),
        (status = 410, response = super::openapi::DeadLink),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn put(
    state: Data<State>,
    Path(token): Path<String>,
    Json(request): Json<NewPassword>,
) -> Result<HttpResponse, Error> {
    reset(&state, TokenHash::of_presented(&token), &request.password).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Set the new password, from the page's form
#[utoipa::path(
    post, path = "/password-resets/{token}", tag = "mailed links", params(super::openapi::LinkToken),
    request_body(content = NewPassword, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A page that says so", body = String, content_type = "text/html"),
        (status = 400, response = super::openapi::Malformed),
        (status = 404, response = super::openapi::UnknownLink),
        (status = 410, response = super::openapi::DeadLink),
        (status = 422, description = "The form again, with what is wrong", body = String, content_type = "text/html"),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn submit(
    state: Data<State>,
    Path(token): Path<String>,
    request: HttpRequest,
    form: Result<Form<NewPassword>, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    let form = form.map_err(|_| pages::unreadable_form())?;
    let done = match reset(&state, TokenHash::of_presented(&token), &form.password).await {
        Ok(()) => {
            pages::Message { title: "Your password is changed", text: "You can close this page and log in with it." }
        }
        Err(Error::Invalid(invalid)) => {
            let mistake = invalid.messages().collect::<Vec<_>>().join(" ");
            return Ok(pages::html(StatusCode::UNPROCESSABLE_ENTITY, &pages::ResetPassword::new(Some(mistake)))?);
        }
        Err(error) => return Ok(pages::failure(&request, error)?),
    };
    Ok(pages::html(StatusCode::OK, &done)?)
}

/// The link is looked at first and used up last, so that a password that is refused costs no link.
async fn reset(state: &State, token: Option<TokenHash>, candidate: &SecretString) -> Result<(), Error> {
    let account = {
        let mut conn = state.read().await?;
        match one_time_token::look_at(&mut conn, token, Purpose::ResetPassword).await? {
            Link::Open(user_id) => {
                user::credentials(&mut conn, user_id).await?.ok_or(Error::DeadLink(Link::Unknown))?
            }
            dead => return Err(Error::DeadLink(dead)),
        }
    };
    let password = Password::choose(candidate, Some(&account.email), &account.name);
    let password = password.map_err(|message| Invalid::field("/password", message))?;
    let password_hash = state.passwords.hash(password).await?;

    let mut tx = state.outbox.begin().await?;
    let user_id = match one_time_token::redeem(&mut tx, token, Purpose::ResetPassword).await? {
        Link::Open(user_id) => user_id,
        dead => return Err(Error::DeadLink(dead)),
    };
    // The password first: a login that is under way waits for this row, and then finds its password gone or is ended below.
    user::reset_password(&mut tx, user_id, &password_hash).await?;
    session::end_all(&mut tx, user_id).await?;
    throttle::forget_account(&mut *tx, &account.email).await?;
    if user::mark_verified(&mut tx, user_id).await? {
        tx.publish(&UserVerified { user_id: user_id.to_string() })?;
    }
    tx.publish(&PasswordChanged { user_id: user_id.to_string() })?;
    tx.commit().await?;
    Ok(())
}
