//! `POST /users`. Its answer says nothing about whether the address has an account: the owner of the address learns that by mail.

use std::time::Instant;

use actix_web::{HttpResponse, web::Data};
use events::users::v1::{RegistrationRepeated, UserRegistered};
use messaging::OutboxTransaction;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use web::{ClientAddr, Json};

use super::{State, answer_time};
use crate::{
    email::Email,
    error::{Error, Invalid},
    one_time_token::{self, Mail, Purpose},
    password::Password,
    user::{self, Name, Registration},
};

/// A new account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Where mails go. Compared without regard to capitals; ASCII.
    #[schema(example = "ada@example.org", format = Email, min_length = 3, max_length = 254)]
    email: String,
    /// What to call the person.
    #[schema(example = "Ada Lovelace", min_length = 1, max_length = 100)]
    name: String,
    /// Not a common one, and without the name or address in it.
    #[schema(value_type = String, example = "quiet-otter-sings-42", format = Password, min_length = 12, max_length = 128)]
    password: SecretString,
}

/// The request was taken; what comes of it comes by mail.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// For people.
    #[schema(example = "Thank you. We have sent a mail to this address.")]
    message: &'static str,
}

impl Accepted {
    /// 202, at a time that says nothing.
    pub(super) async fn answer(since: Instant, message: &'static str) -> HttpResponse {
        answer_time::even_out(since).await;
        HttpResponse::Accepted().json(Self { message })
    }
}

/// Register
///
/// Always answers the same, in the same time, whether the address has an account or not. The mail has a link that verifies the address, or says
/// that there is an account already.
#[utoipa::path(
    post, path = "/users", tag = "accounts", request_body = Register,
    responses(
        (status = 202, description = "Taken; a mail follows", body = Accepted),
        (status = 400, response = super::openapi::Malformed),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 429, response = super::openapi::TooManyMails),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn register(
    state: Data<State>,
    client: ClientAddr,
    Json(request): Json<Register>,
) -> Result<HttpResponse, Error> {
    let since = Instant::now();
    let (email, name, password) = request.check()?;
    state.count_mail_request(client).await?;
    let password_hash = state.passwords.hash(password).await?;
    let mut tx = state.outbox.begin().await?;
    match user::register(&mut tx, &email, &name, &password_hash).await? {
        Registration::Created(id) => welcome(&mut tx, id, &email, &name).await?,
        Registration::Known(id) => tell_owner(&mut tx, id, &email).await?,
    }
    tx.commit().await?;
    Ok(Accepted::answer(since, "Thank you. We have sent a mail to this address.").await)
}

impl Register {
    fn check(&self) -> Result<(Email, Name, Password), Error> {
        let mut invalid = Invalid::default();
        let email = invalid.check("/email", Email::parse(&self.email));
        let name = invalid.check("/name", Name::parse(&self.name));
        let password = invalid.check("/password", Password::choose(&self.password, email.as_ref(), &self.name));
        match (email, name, password) {
            (Some(email), Some(name), Some(password)) => Ok((email, name, password)),
            _ => Err(invalid.into()),
        }
    }
}

async fn welcome(tx: &mut OutboxTransaction, id: Uuid, email: &Email, name: &Name) -> Result<(), Error> {
    tx.publish(&UserRegistered {
        user_id: id.to_string(),
        email: email.as_str().to_owned(),
        name: name.as_str().to_owned(),
    })?;
    // The first mail is always sent; this makes the next one wait.
    one_time_token::may_mail(tx, email, Mail::VerifyEmail).await?;
    let issued = one_time_token::issue(tx, id, Purpose::VerifyEmail).await?;
    tx.publish(&issued.verification_requested())?;
    Ok(())
}

async fn tell_owner(tx: &mut OutboxTransaction, id: Uuid, email: &Email) -> Result<(), Error> {
    if one_time_token::may_mail(tx, email, Mail::AccountExists).await? {
        tx.publish(&RegistrationRepeated { user_id: id.to_string() })?;
    }
    Ok(())
}
