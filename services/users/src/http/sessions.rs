//! Login, renewal and logout. The tokens are in the body and nowhere else, so there is no cookie to protect.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::Data,
};
use chrono::Utc;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;
use uuid::Uuid;
use web::{ClientAddr, Json, Path, auth};

use super::{State, caller::Caller};
use crate::{
    email::Email,
    error::{Error, Invalid},
    session::{self, Renewal, Session},
    signing_key::TOKEN_LIFETIME,
    throttle,
    token::{Token, TokenHash},
    user::{self, Role},
};

/// Who wants to log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The address of the account.
    #[schema(example = "ada@example.org", format = Email, max_length = 254)]
    email: String,
    /// Its password.
    #[schema(value_type = String, example = "quiet-otter-sings-42", format = Password)]
    password: SecretString,
}

/// The refresh token of the session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The latest one; it works once.
    #[schema(value_type = String, example = "uPzXkTq0bC7w3tJc4n6s2mVhYd8RgAeLfIoKxWvB1ZE")]
    refresh_token: SecretString,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// The session, to end it with `DELETE /sessions/{id}`.
    session_id: Uuid,
    /// A JWT, signed with Ed25519 (`GET /.well-known/jwks.json`). Send it as `Authorization: Bearer …` to any service.
    access_token: String,
    /// How to send it.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds until the access token expires.
    #[schema(example = 600)]
    expires_in: u64,
    /// For `POST /sessions/renewal`, once. Keep it as secret as a password.
    refresh_token: String,
    /// Seconds until the refresh token expires.
    #[schema(example = 2_592_000)]
    refresh_expires_in: u64,
}

/// Log in
///
/// Opens a session. The answer does not tell an unknown address from a wrong password. After five failures each further one doubles a pause for the account,
/// and many failures from one network address make it wait, too. An account has at most 20 sessions; one more ends the one that was renewed longest ago.
#[utoipa::path(
    post, path = "/sessions", tag = "sessions", request_body = Login,
    responses(
        (status = 201, description = "Logged in", body = Tokens, headers(("location" = String, description = "The session"))),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::WrongCredentials),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 429, response = super::openapi::TooManyAttempts),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn login(
    state: Data<State>,
    client: ClientAddr,
    Json(request): Json<Login>,
) -> Result<HttpResponse, Error> {
    let email = Email::parse(&request.email).map_err(|message| Invalid::field("/email", message))?;
    let account = user::credentials_by_email(&mut *state.read().await?, &email).await?;
    let (user_id, password_hash) = account.map(|account| (account.user_id, account.password_hash)).unzip();
    let right = state.passwords_match(&email, client, &request.password, password_hash.clone()).await?;
    let (true, Some(user_id), Some(password_hash)) = (right, user_id, password_hash) else {
        return Err(Error::WrongCredentials);
    };

    let mut tx = state.outbox.begin().await?;
    let opened = session::open(&mut tx, user_id, &password_hash).await?;
    let (session, refresh_token) = opened.ok_or(Error::WrongCredentials)?;
    throttle::forget_account(&mut *tx, &email).await?;
    tx.commit().await?;
    tokens(&state, StatusCode::CREATED, &session, &refresh_token)
}

/// Renew the session
///
/// Exchanges the refresh token for a new pair; the role and the verification of the account are looked up again. A refresh token that comes a second
/// time ends the session, because then two parties hold it. One that comes too soon after many others keeps its worth.
#[utoipa::path(
    post, path = "/sessions/renewal", tag = "sessions", request_body = Renew,
    responses(
        (status = 200, description = "Renewed", body = Tokens),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::SessionEnded),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 429, response = super::openapi::TooManyRenewals),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn renew(state: Data<State>, Json(request): Json<Renew>) -> Result<HttpResponse, Error> {
    use secrecy::ExposeSecret as _;
    let mut tx = state.outbox.begin().await?;
    match session::renew(&mut tx, TokenHash::of_presented(request.refresh_token.expose_secret())).await? {
        Renewal::Renewed(session, refresh_token) => {
            tx.commit().await?;
            tokens(&state, StatusCode::OK, &session, &refresh_token)
        }
        Renewal::Reused(session) => {
            tx.commit().await?;
            metrics::counter!("users_refresh_token_reuses_total").increment(1);
            warn!(session_id = %session.id, "a refresh token came a second time; its session has been ended");
            Err(Error::SessionEnded)
        }
        Renewal::TooOften(pause) => Err(Error::TooManyRenewals(pause)),
        Renewal::Unknown => Err(Error::SessionEnded),
    }
}

/// Log out
#[utoipa::path(
    delete, path = "/sessions/current", tag = "sessions", security(("bearer" = [])),
    responses(
        (status = 204, description = "The session of this access token has ended"),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn logout(state: Data<State>, caller: Caller) -> Result<HttpResponse, Error> {
    end(&state, &caller, caller.session_id).await
}

/// End a session
///
/// One of one's own, such as that of a device that was lost.
#[utoipa::path(
    delete, path = "/sessions/{id}", tag = "sessions", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "`session_id` of the answer to the login")),
    responses(
        (status = 204, description = "The session has ended"),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 404, response = super::openapi::NotFound),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn end_one(state: Data<State>, caller: Caller, Path(id): Path<Uuid>) -> Result<HttpResponse, Error> {
    end(&state, &caller, id).await
}

async fn end(state: &State, caller: &Caller, id: Uuid) -> Result<HttpResponse, Error> {
    let mut tx = state.outbox.begin().await?;
    let ended = session::end(&mut tx, caller.user_id, id).await?;
    tx.commit().await?;
    if ended { Ok(HttpResponse::NoContent().finish()) } else { Err(Error::NoSuchSession) }
}

fn tokens(state: &State, status: StatusCode, session: &Session, refresh_token: &Token) -> Result<HttpResponse, Error> {
    let now = Utc::now().timestamp();
    let claims = auth::Claims {
        iss: auth::ISSUER.to_owned(),
        aud: auth::AUDIENCE.to_owned(),
        sub: session.user_id,
        sid: session.id,
        role: session.role.into(),
        verified: session.verified,
        iat: now,
        exp: now + TOKEN_LIFETIME.as_secs() as i64,
        jti: Uuid::now_v7(),
    };
    let tokens = Tokens {
        session_id: session.id,
        access_token: state.keys.sign(&claims)?,
        token_type: "Bearer",
        expires_in: TOKEN_LIFETIME.as_secs(),
        refresh_token: refresh_token.expose().to_owned(),
        refresh_expires_in: session::LIFETIME.as_secs(),
    };
    let mut response = HttpResponse::build(status);
    // RFC 6749 §5.1
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if status == StatusCode::CREATED {
        response.insert_header((header::LOCATION, format!("/sessions/{}", session.id)));
    }
    Ok(response.json(tokens))
}

impl From<Role> for auth::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Customer => Self::Customer,
            Role::Operator => Self::Operator,
        }
    }
}
