//! The API: what became of the mails, and sending one again. It sends nothing itself and never shows a token.
#![expect(unused_qualifications, reason = "utoipa's expansion of `params` qualifies what is imported")]

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
    web::{Data, ServiceConfig},
};
use chrono::{DateTime, Utc};
use messaging::Outbox;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::{IntoParams, OpenApi, ToSchema};
use uuid::Uuid;
use web::{
    Page, Path, ProblemBody, Query,
    auth::{Identity, Operator, Role, Verifier},
    etag,
    page::Place,
};

use crate::{
    error::Error,
    listing::Filter,
    metrics,
    notification::{NotResendable, Notification},
    recipient::{Recipient, Whereabouts},
    send_email::SendEmail,
    state::{Failure, State, Template},
};

/// The routes with what they need.
pub(crate) fn routes(verifier: Verifier, outbox: Outbox) -> impl Fn(&mut ServiceConfig) + Send + Sync + 'static {
    move |config| {
        config.app_data(Data::new(outbox.clone())).app_data(verifier.clone());
        config.service(list).service(show).service(resend);
    }
}

/// Their description.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "notifications",
            description = "E-mails that follow from events: what became of each, and sending one again."
        ),
        paths(list, show, resend),
        components(schemas(NotificationView))
    )]
    struct Api;
    Api::openapi()
}

/// A mail to somebody, and what became of it. Neither its address nor its link are shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Notification, example = json!({
    "id": "5f0f7c1e-3c1a-5b7e-9a55-0f6f1c7b1a11",
    "user_id": "0190163d-8694-739b-aea5-966c26f8ad91",
    "template": "verify_email",
    "state": "sent",
    "attempts": 1,
    "message_id": "<5f0f7c1e-3c1a-5b7e-9a55-0f6f1c7b1a11@postrider.example>",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "occurred_at": "2026-11-23T09:10:11.120Z",
    "created_at": "2026-11-23T09:10:11.140Z",
    "updated_at": "2026-11-23T09:10:11.305Z",
    "expires_at": "2026-11-24T09:10:11.120Z",
    "sent_at": "2026-11-23T09:10:11.305Z"
}))]
struct NotificationView {
    id: Uuid,
    /// Whose mail it is. Missing: it is for the people who run the shop.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Uuid>,
    template: Template,
    state: State,
    /// Why it is bounced or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    /// How often the mail server was asked to take it, since it was last queued.
    attempts: i32,
    /// It is sent as soon as the account's address is known: its registration is still on its way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    waits_for_address: bool,
    /// What the mail server said last if it did not take it, without addresses and links.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// The `Message-ID` header of the mail: every attempt has the same one.
    message_id: String,
    /// The trace that the mail belongs to; also its `X-Trace-Id` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// When it happened that the mail is about.
    occurred_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// It is not sent after this moment.
    expires_at: DateTime<Utc>,
    /// When the mail server took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<DateTime<Utc>>,
}

impl From<Notification> for NotificationView {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id,
            user_id: notification.user_id,
            template: notification.template,
            state: notification.state,
            failure: notification.failure,
            waits_for_address: notification.waits_for_address && notification.state == State::Pending,
            attempts: notification.attempts,
            last_error: notification.last_error,
            message_id: notification.message_id,
            trace_id: notification.trace_id,
            occurred_at: notification.occurred_at,
            created_at: notification.created_at,
            updated_at: notification.updated_at,
            expires_at: notification.expires_at,
            sent_at: notification.sent_at,
        }
    }
}

/// Which notifications to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Only those in this state.
    state: Option<State>,
    /// Only this letter.
    template: Option<Template>,
    /// Only those of this person. Customers see their own in any case, and nobody else's.
    user_id: Option<Uuid>,
    /// Read by [`Page`]; named here so that everything else is refused: a misspelt filter must not show everything.
    #[param(ignore)]
    #[serde(rename = "limit")]
    _limit: Option<IgnoredAny>,
    /// As `_limit`.
    #[param(ignore)]
    #[serde(rename = "after")]
    _after: Option<IgnoredAny>,
}

/// Lists notifications, newest first: customers their own, operators everybody's.
#[utoipa::path(
    get, path = "/notifications", tag = "notifications", params(Wanted, Page), security(("bearer" = [])),
    responses(
        (status = 200, description = "A page of notifications.", body = [NotificationView],
         headers(("Link" = String, description = "`rel=next`: the page after this one, if there is one."))),
        (status = 400, description = "A parameter is unknown or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "The access token is missing or not valid.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[actix_web::get("/notifications")]
async fn list(
    identity: Identity,
    wanted: Query<Wanted>,
    page: Page,
    request: HttpRequest,
    outbox: Data<Outbox>,
) -> Result<HttpResponse, Error> {
    let after = page.after::<Place>()?.map(Place::key);
    let filter =
        Filter { reader: reader(identity), user_id: wanted.user_id, state: wanted.state, template: wanted.template };
    let mut db = outbox.pool().acquire().await?;
    let mut found = filter.page(&mut db, after, page.limit() + 1).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, "private, no-cache"));
    if found.len() > usize::try_from(page.limit()).unwrap_or(usize::MAX) {
        found.pop();
        if let Some(last) = found.last() {
            response.insert_header(web::page::next_link(&request, &Place::of(last.created_at, last.id)?)?);
        }
    }
    Ok(response.json(found.into_iter().map(NotificationView::from).collect::<Vec<_>>()))
}

/// Shows one notification.
#[utoipa::path(
    get, path = "/notifications/{id}", tag = "notifications", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The notification"),
           ("If-None-Match" = Option<String>, Header, description = "The ETag of what you have")),
    responses(
        (status = 200, description = "The notification.", body = NotificationView,
         headers(("ETag" = String, description = "The version of this representation."))),
        (status = 304, description = "You have the current version."),
        (status = 400, description = "The id is no UUID.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "The access token is missing or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is none with this id, or it is somebody else's.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[actix_web::get("/notifications/{id}")]
async fn show(
    identity: Identity,
    id: Path<Uuid>,
    request: HttpRequest,
    outbox: Data<Outbox>,
) -> Result<HttpResponse, Error> {
    let mut db = outbox.pool().acquire().await?;
    let notification = Notification::load(&mut db, *id).await?;
    let notification =
        notification.filter(|found| reader(identity).is_none_or(|user_id| found.user_id == Some(user_id)));
    let notification = notification.ok_or(Error::NotFound)?;
    let version = notification.version.into();
    let known = etag::is_known(&request, version);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(etag::of(version)).insert_header((CACHE_CONTROL, "private, no-cache"));
    Ok(if known { response.finish() } else { response.json(NotificationView::from(notification)) })
}

/// Sends a notification again. Only bounced, failed and sent ones, and letters with a link only as long as the link is
/// known: it is erased when the letter was sent, and then the user asks for a new one at the users service.
#[utoipa::path(
    post, path = "/notifications/{id}/resend", tag = "notifications", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The notification"),
           ("If-Match" = Option<String>, Header, description = "The ETag of what you decided upon")),
    responses(
        (status = 202, description = "It waits for its turn at the mail server again.", body = NotificationView,
         headers(("Location" = String, description = "Where to look what became of it."),
                 ("ETag" = String, description = "The version of this representation."))),
        (status = 400, description = "The id is no UUID.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "The access token is missing or not valid.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "Only operators may do this.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is none with this id.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It cannot be sent again; `detail` says why and what to do instead.", body = ProblemBody, content_type = "application/problem+json",
         example = json!({
             "type": "urn:postrider:problem:not-resendable",
             "title": "It cannot be sent again",
             "status": 409,
             "detail": "Its link ran out, or was erased when it was sent. Have the user ask for a new one: POST /email-verifications or POST /password-resets at the users service.",
             "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
         })),
        (status = 412, description = "It is not in the version that If-Match names.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[actix_web::post("/notifications/{id}/resend")]
async fn resend(
    _: Operator,
    id: Path<Uuid>,
    request: HttpRequest,
    outbox: Data<Outbox>,
) -> Result<HttpResponse, Error> {
    let mut tx = outbox.begin().await?;
    let mut notification = Notification::lock(&mut tx, *id).await?.ok_or(Error::NotFound)?;
    etag::allow(&request, notification.version.into())?;
    notification.resendable().map_err(Error::NotResendable)?;
    if let Some(user_id) = notification.user_id
        && !matches!(Recipient::find(&mut tx, user_id).await?, Whereabouts::Known(_))
    {
        return Err(Error::NotResendable(NotResendable::NoAddress));
    }
    notification.queue_again(&mut tx, Utc::now(), telemetry::current_trace_id()).await?;
    SendEmail::enqueue(&mut tx, notification.id, notification.template);
    tx.commit().await?;
    metrics::became(notification.template, State::Pending);
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/notifications/{}", notification.id)))
        .insert_header(etag::of(notification.version.into()))
        .json(NotificationView::from(notification)))
}

/// Whose notifications somebody may see; `None`: everybody's.
fn reader(identity: Identity) -> Option<Uuid> {
    match identity.role {
        Role::Customer => Some(identity.user_id),
        Role::Operator => None,
    }
}
