//! What operators do: list the accounts, and give roles.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use web::{Json, Page, Path};

use super::{State, caller::Caller, me::Profile};
use crate::{
    error::Error,
    user::{self, Role},
};

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Profiles {
    /// In the order of registration.
    users: Vec<Profile>,
}

/// The role to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveRole {
    /// What the account may do from now on.
    role: Role,
}

/// List the accounts
///
/// For operators. In the order of registration; follow the `Link` header to the next page.
#[utoipa::path(
    get, path = "/users", tag = "operators", security(("bearer" = [])), params(Page),
    responses(
        (status = 200, description = "A page", body = Profiles, headers(("link" = String, description = "The next page, if there is one"))),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 403, response = super::openapi::OperatorsOnly),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn list(
    state: Data<State>,
    caller: Caller,
    page: Page,
    request: HttpRequest,
) -> Result<HttpResponse, actix_web::Error> {
    caller.require_operator()?;
    let after = page.after::<Uuid>()?;
    let mut users = load(&state, after, page.limit() + 1).await?;
    let more = users.len() as i64 > page.limit();
    if more {
        users.pop();
    }
    let mut response = HttpResponse::Ok();
    if let (true, Some(last)) = (more, users.last()) {
        response.insert_header(web::page::next_link(&request, &last.id)?);
    }
    Ok(response.json(Profiles { users: users.into_iter().map(Profile::from).collect() }))
}

async fn load(state: &State, after: Option<Uuid>, limit: i64) -> Result<Vec<user::User>, Error> {
    Ok(user::list(&mut *state.read().await?, after, limit).await?)
}

/// Give a role
///
/// For operators. It counts at once in this service; other services see it in the next access token, within ten minutes.
#[utoipa::path(
    put, path = "/users/{id}/role", tag = "operators", security(("bearer" = [])), request_body = GiveRole,
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "The account, with the role", body = Profile),
        (status = 400, response = super::openapi::Malformed),
        (status = 401, response = super::openapi::Unauthenticated),
        (status = 403, response = super::openapi::OperatorsOnly),
        (status = 404, response = super::openapi::NotFound),
        (status = 409, response = super::openapi::LastOperator),
        (status = 413, response = super::openapi::TooLarge),
        (status = 415, response = super::openapi::NotJson),
        (status = 422, response = super::openapi::InvalidFields),
        (status = 503, response = super::openapi::Unavailable),
    )
)]
pub(crate) async fn give_role(
    state: Data<State>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<GiveRole>,
) -> Result<HttpResponse, Error> {
    caller.require_operator()?;
    let mut tx = state.outbox.begin().await?;
    if request.role != Role::Operator && user::is_last_operator(&mut tx, id).await? {
        return Err(Error::LastOperator);
    }
    let user = user::set_role(&mut tx, id, request.role).await?.ok_or(Error::NoSuchUser)?;
    tx.commit().await?;
    tracing::info!(%id, by = %caller.user_id, role = ?user.role, "a role was given");
    Ok(HttpResponse::Ok().json(Profile::from(user)))
}
