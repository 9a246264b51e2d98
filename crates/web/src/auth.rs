//! Who is asking: EdDSA-signed access tokens (JWT) of the users service, verified without asking it. Whether a session
//! has been revoked is not known here; tokens are short-lived instead.

mod keys;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use futures_util::future::LocalBoxFuture;
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind, jwk::JwkSet};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Problem;
use keys::{Keys, Unknown};

/// `iss` of every token.
pub const ISSUER: &str = "postrider";
/// `aud` of every token.
pub const AUDIENCE: &str = "postrider";
/// Clocks may differ by this much.
const LEEWAY: Duration = Duration::from_secs(5);

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees and changes only what is their own.
    Customer,
    /// Runs the shop.
    Operator,
}

/// The claims of an access token, as the users service signs them (header: `alg` = `EdDSA`, `kid` = the key's id).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// [`ISSUER`].
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// The account.
    pub sub: Uuid,
    /// The session, by which the account's owner can revoke it.
    pub sid: Uuid,
    /// What the account may do.
    pub role: Role,
    /// Whether the account's address has been verified.
    pub verified: bool,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
    /// The token itself.
    pub jti: Uuid,
}

/// Who is asking. As an argument of a handler, it refuses everybody else with 401. Needs a [`Verifier`] in `app_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub user_id: Uuid,
    /// The session that the token belongs to.
    pub session_id: Uuid,
    /// What the account may do.
    pub role: Role,
    /// Whether the account's address has been verified.
    pub verified: bool,
    /// The end of the token. What is answered for longer, such as a stream, ends with it.
    pub expires_at: SystemTime,
}

/// An [`Identity`] with the role operator; refuses others with 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator(pub Identity);

/// Verifies access tokens. Cheap to clone; put one into `app_data`.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<Keys>,
    validation: Arc<Validation>,
}

/// Why a token was not accepted. Its text is for the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No token was sent.
    #[error(
        "Send an access token in the header `Authorization: Bearer …`; POST /sessions of the users service gives one."
    )]
    Missing,
    /// The token is not what the users service signed, or not for this system.
    #[error("The access token is not valid ({0}); log in again to get another.")]
    Invalid(&'static str),
    /// The token was valid.
    #[error("The access token has expired; renew the session to get another.")]
    Expired,
    /// No keys have been seen yet.
    #[error("Access tokens cannot be verified at the moment; try again in a few seconds.")]
    Unavailable,
}

impl Verifier {
    /// Takes the keys from the users service, at the first token and again from time to time. While it is down, the last
    /// known keys stay in use.
    #[must_use]
    pub fn from_jwks_url(url: impl Into<String>) -> Self {
        Self::new(Keys::remote(url.into()))
    }

    /// Knows its keys: those Ed25519 keys of `keys` that have a `kid`.
    #[must_use]
    pub fn from_keys(keys: &JwkSet) -> Self {
        Self::new(Keys::fixed(keys))
    }

    fn new(keys: Keys) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        Self { keys: Arc::new(keys), validation: Arc::new(validation) }
    }

    /// Verifies signature, issuer, audience and expiry of a token.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return Err(AuthError::Invalid("it is no JWT, or its algorithm is not EdDSA"));
        };
        if header.alg != Algorithm::EdDSA {
            return Err(AuthError::Invalid("its algorithm is not EdDSA"));
        }
        let kid = header.kid.ok_or(AuthError::Invalid("it names no key"))?;
        let key = Keys::get(&self.keys, &kid).await.map_err(|unknown| match unknown {
            Unknown::Key => AuthError::Invalid("it is signed with an unknown key"),
            Unknown::Everything => AuthError::Unavailable,
        })?;
        let token =
            jsonwebtoken::decode::<Claims>(token, &key, &self.validation).map_err(|error| rejection(error.kind()))?;
        Ok(Identity {
            user_id: token.claims.sub,
            session_id: token.claims.sid,
            role: token.claims.role,
            verified: token.claims.verified,
            expires_at: UNIX_EPOCH + Duration::from_secs(u64::try_from(token.claims.exp).unwrap_or_default()),
        })
    }
}

fn rejection(error: &ErrorKind) -> AuthError {
    match error {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::InvalidSignature => AuthError::Invalid("its signature is wrong"),
        ErrorKind::InvalidIssuer => AuthError::Invalid("it is from another issuer"),
        ErrorKind::InvalidAudience => AuthError::Invalid("it is for another audience"),
        ErrorKind::ImmatureSignature => AuthError::Invalid("it is not valid yet"),
        ErrorKind::Json(_) | ErrorKind::MissingRequiredClaim(_) => AuthError::Invalid("its claims are not complete"),
        _ => AuthError::Invalid("it is malformed"),
    }
}

impl From<AuthError> for Problem {
    /// 401 with the challenge of RFC 6750: no error code when no token was sent, `invalid_token` otherwise.
    fn from(error: AuthError) -> Self {
        let challenge = match &error {
            AuthError::Unavailable => {
                return Self::unavailable(keys::RETRY_AFTER, error.to_string());
            }
            AuthError::Missing => return Self::unauthorized(error.to_string()),
            AuthError::Invalid(_) => {
                r#"Bearer realm="postrider", error="invalid_token", error_description="The access token is not valid""#
            }
            AuthError::Expired => {
                r#"Bearer realm="postrider", error="invalid_token", error_description="The access token has expired""#
            }
        };
        Self::new(StatusCode::UNAUTHORIZED, "invalid-token", "The access token is not accepted")
            .detail(error.to_string())
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}

impl FromRequest for Identity {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let verifier = request.app_data::<Verifier>().cloned();
        let token = bearer(request).map(ToOwned::to_owned);
        Box::pin(async move {
            let token = token.ok_or(AuthError::Missing)?;
            let verifier = verifier.ok_or_else(|| Problem::internal(&NoVerifier))?;
            Ok(verifier.verify(&token).await?)
        })
    }
}

impl FromRequest for Operator {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let identity = Identity::from_request(request, payload);
        Box::pin(async move {
            let identity = identity.await?;
            match identity.role {
                Role::Operator => Ok(Self(identity)),
                Role::Customer => {
                    Err(Problem::forbidden("Only operators may do this; log in with an operator's account."))
                }
            }
        })
    }
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[derive(Debug, thiserror::Error)]
#[error("a route asks for an identity, but no web::auth::Verifier is in app_data")]
struct NoVerifier;
