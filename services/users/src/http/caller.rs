//! Who is asking: an access token whose session still lives. Other services believe the token alone, for the minutes that it lasts.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web::Data};
use uuid::Uuid;
use web::{Problem, auth::AuthError};

use super::State;
use crate::{error::Error, session, user::Role};

/// Somebody who is logged in, now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) user_id: Uuid,
    pub(crate) session_id: Uuid,
    role: Role,
}

impl Caller {
    /// Refuses everybody else.
    pub(crate) fn require_operator(&self) -> Result<(), Error> {
        match self.role {
            Role::Operator => Ok(()),
            Role::Customer => Err(Error::Forbidden),
        }
    }
}

impl FromRequest for Caller {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = Data::<State>::from_request(request, payload);
        let token = bearer(request).map(ToOwned::to_owned);
        Box::pin(async move {
            let state = state.await?;
            let token = token.ok_or(AuthError::Missing).map_err(Problem::from)?;
            let identity = state.keys.verifier().verify(&token).await.map_err(Problem::from)?;
            let session =
                find(&state, identity.session_id).await?.filter(|session| session.user_id == identity.user_id);
            let session = session.ok_or(AuthError::Invalid("its session has ended")).map_err(Problem::from)?;
            Ok(Self { user_id: session.user_id, session_id: session.id, role: session.role })
        })
    }
}

async fn find(state: &State, id: Uuid) -> Result<Option<session::Session>, Error> {
    Ok(session::load(&mut *state.read().await?, id).await?)
}

/// RFC 6750 §2.1; the scheme is compared without regard to case.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
