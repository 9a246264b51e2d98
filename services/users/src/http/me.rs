//! `/users/me`: one's own profile.

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use chrono::{DateTime, Utc};
use events::users::v1::{PasswordChanged, UserDeleted};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use web::{ClientAddr, Json, etag};

use super::{State, caller::Caller};
use crate::{
    error::{Error, Invalid},
    one_time_token,
    password::Password,
    session,
    user::{self, Credentials, Name, Role, User},
};

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct Profile {
    /// Stays the same for ever.
    id: Uuid,
    /// Where mails go.
    #[schema(example = "ada@example.org", format = Email)]
    email: String,
    /// What to call the person.
    #[schema(example = "Ada Lovelace")]
    name: String,
    /// What the account may do.
    role: Role,
    /// Whether control of the address was proved.
    verified: bool,
    /// When they registered.
    created_at: DateTime<Utc>,
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email.as_str().to_owned(),
            name: user.name,
            role: user.role,
            verified: user.verified_at.is_some(),
            created_at: user.created_at,
        }
    }
}

/// What to change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The new name.
    #[schema(example = "Ada King", min_length = 1, max_length = 100)]
    name: Option<String>,
    /// The password until now; needed with `new_password`.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<SecretString>,
    /// The password from now on. Ends every session, this one as well.
    #[schema(value_type = Option<String>, format = Password, min_length = 12, max_length = 128)]
    new_password: Option<SecretString>,
}

/// The password, once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Goodbye {
    /// Of the account.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// See one's own profile
#[utoipa::path(
    get, path = "/users/me", tag = "accounts", security(("bearer" = [])),
    params(("if-none-match" = Option<String>, Header, description = "The ETag of the profile that one has already")),
    responses(
        (status = 200, description = "The profile", body = Profile, headers(("etag" = String, description = "Its version"))),
        (status = 304, description = "It has not changed"),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn show(state: Data<State>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Error> {
    let user = user::load(&mut *state.read().await?, caller.user_id).await?.ok_or(Error::NoSuchUser)?;
    if etag::is_known(&request, user.version) {
        return Ok(HttpResponse::NotModified().insert_header(etag::of(user.version)).finish());
    }
    Ok(profile(user))
}

/// Change one's own profile
///
/// Needs `If-Match` with the ETag of the profile that the change is made to: a change to an older version is refused, and one without a version, too.
#[utoipa::path(
    patch, path = "/users/me", tag = "accounts", security(("bearer" = [])), request_body = Change,
    params(("if-match" = String, Header, description = "The ETag of the profile")),
    responses(
        (status = 200, description = "Changed", body = Profile, headers(("etag" = String, description = "Its new version"))),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 403, response = super::openapi::WrongPassword),
        (status = 412, response = super::openapi::VersionMoved),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 428, response = super::openapi::VersionMissing),
        (status = 429, response = super::openapi::TooManyAttempts),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn change(
    state: Data<State>,
    caller: Caller,
    client: ClientAddr,
    request: HttpRequest,
    Json(change): Json<Change>,
) -> Result<HttpResponse, Error> {
    let account = user::credentials(&mut *state.read().await?, caller.user_id).await?.ok_or(Error::NoSuchUser)?;
    etag::require(&request, account.version)?;
    let change = change.check(&account)?;
    let password_hash = match change.password {
        Some(password) => {
            confirm_password(&state, client, &account, &password.current).await?;
            Some(state.passwords.hash(password.new).await?)
        }
        None => None,
    };

    let mut tx = state.outbox.begin().await?;
    // The version again, in the statement: somebody may have been faster since it was read.
    let changed =
        user::change(&mut tx, account.user_id, account.version, change.name.as_ref(), password_hash.as_ref()).await?;
    let user = changed.ok_or_else(etag::moved)?;
    if password_hash.is_some() {
        session::end_all(&mut tx, account.user_id).await?;
        one_time_token::close_resets(&mut tx, account.user_id).await?;
        tx.publish(&PasswordChanged { user_id: account.user_id.to_string() })?;
    }
    tx.commit().await?;
    Ok(profile(user))
}

/// Delete one's own account
///
/// Removes everything that this service knows about the person, at once and for good; other services follow.
#[utoipa::path(
    delete, path = "/users/me", tag = "accounts", security(("bearer" = [])), request_body = Goodbye,
    responses(
        (status = 204, description = "Deleted"),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 403, response = super::openapi::WrongPassword),
        (status = 409, response = super::openapi::LastOperator),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 429, response = super::openapi::TooManyAttempts),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn delete(
    state: Data<State>,
    caller: Caller,
    client: ClientAddr,
    Json(request): Json<Goodbye>,
) -> Result<HttpResponse, Error> {
    let account = user::credentials(&mut *state.read().await?, caller.user_id).await?.ok_or(Error::NoSuchUser)?;
    confirm_password(&state, client, &account, &request.password).await?;

    let mut tx = state.outbox.begin().await?;
    if user::is_last_operator(&mut tx, account.user_id).await? {
        return Err(Error::LastOperator);
    }
    user::delete(&mut tx, account.user_id, &account.email).await?;
    let key = account.user_id.to_string();
    messaging::journal::erase(&mut tx, &key).await?;
    tx.publish(&UserDeleted { user_id: key })?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A change that can be made.
struct Checked {
    name: Option<Name>,
    password: Option<Replacement>,
}

struct Replacement {
    current: SecretString,
    new: Password,
}

impl Change {
    /// A name, a pair of passwords, or both.
    fn check(self, account: &Credentials) -> Result<Checked, Error> {
        let mut invalid = Invalid::default();
        let name = self.name.and_then(|name| invalid.check("/name", Name::parse(&name)));
        let password = match (self.current_password, self.new_password) {
            (Some(current), Some(new)) => {
                let new = invalid.check("/new_password", Password::choose(&new, Some(&account.email), &account.name));
                new.map(|new| Replacement { current, new })
            }
            (None, Some(_)) => invalid.check("/current_password", Err("Send the current password with the new one.")),
            (Some(_), None) => invalid.check("/new_password", Err("Send the new password with the current one.")),
            (None, None) => None,
        };
        if invalid.is_empty() && name.is_none() && password.is_none() {
            return Err(Invalid::field("", "Send a name, or a current and a new password."));
        }
        invalid.into_result()?;
        Ok(Checked { name, password })
    }
}

/// A stolen access token must not be enough to take over an account, nor to try passwords without limit.
async fn confirm_password(
    state: &State,
    client: ClientAddr,
    account: &Credentials,
    password: &SecretString,
) -> Result<(), Error> {
    let right = state.passwords_match(&account.email, client, password, Some(account.password_hash.clone())).await?;
    if right { Ok(()) } else { Err(Error::WrongPassword) }
}

fn profile(user: User) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(etag::of(user.version))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .json(Profile::from(user))
}
