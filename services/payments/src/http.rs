//! The API: what became of an order's payment, and giving it back. It asks no provider itself.

mod body;
mod openapi;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
    web::{Data, ServiceConfig},
};
use chrono::{DateTime, Utc};
use messaging::Outbox;
use money::Money;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi as _, ToSchema};
use uuid::Uuid;
use web::{
    Path, Problem,
    auth::{Identity, Operator, Role, Verifier},
    etag,
};

use crate::{
    error::Error,
    payment::Payment,
    settle::settle,
    state::{DeclineReason, Fact, State},
};
use body::Optional;

/// Longest reason of a refund.
const REASON_MAX_CHARS: usize = 500;

/// The routes with what they need.
pub(crate) fn routes(verifier: Verifier, outbox: Outbox) -> impl Fn(&mut ServiceConfig) + Send + Sync + 'static {
    move |config| {
        config.app_data(Data::new(outbox.clone())).app_data(verifier.clone());
        config.service(show).service(refund);
    }
}

/// Their description.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    openapi::Document::openapi()
}

/// The payment for an order.
#[derive(Serialize, ToSchema)]
#[schema(as = Payment, example = json!({
    "id": "b1a7cb0e-5f7f-5a5e-8f0b-6a8a4f1b7c11",
    "order_id": "0190163d-8694-739b-aea5-966c26f8ad91",
    "user_id": "0190163c-11f2-7c7a-9a3e-5a1f0b7c2d33",
    "amount": {"minor_units": 1999, "currency": "EUR"},
    "payment_method": "pm_ok",
    "state": "authorized",
    "created_at": "2026-11-23T09:10:11.120Z",
    "updated_at": "2026-11-23T09:10:11.305Z",
    "version": 2,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
}))]
struct PaymentView {
    /// Also the key under which the provider knows it.
    id: Uuid,
    order_id: Uuid,
    /// Whose order it is.
    user_id: Uuid,
    amount: Money,
    /// The provider's name for the customer's means of payment.
    #[schema(min_length = 1, max_length = 255)]
    payment_method: String,
    state: PaymentState,
    /// Only of a declined payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    decline_reason: Option<DeclineReason>,
    /// What the operator wrote who had it refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 500)]
    refund_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Counts the changes; also the ETag.
    #[schema(minimum = 1)]
    version: i64,
    /// The trace of the order that asked for the money.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{32}$")]
    trace_id: Option<String>,
}

/// How far a payment has come.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PaymentState {
    /// The provider is asked for the money.
    Pending,
    /// The provider has taken the money.
    Authorized,
    /// The provider will not take it.
    Declined,
    /// Nobody waits for the provider's decision any more: whatever was taken goes back.
    Cancelling,
    /// Nothing was taken, and nothing can be taken any more.
    Cancelled,
    /// The money goes back.
    Refunding,
    /// The money went back.
    Refunded,
}

impl From<State> for PaymentState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Authorized => Self::Authorized,
            State::Declined => Self::Declined,
            State::GivingUp | State::Cancelling => Self::Cancelling,
            State::Cancelled => Self::Cancelled,
            State::Refunding => Self::Refunding,
            State::Refunded => Self::Refunded,
        }
    }
}

impl From<Payment> for PaymentView {
    fn from(payment: Payment) -> Self {
        Self {
            amount: payment.amount(),
            id: payment.id,
            order_id: payment.order_id,
            user_id: payment.user_id,
            payment_method: payment.payment_method,
            state: payment.state.into(),
            decline_reason: payment.decline_reason.filter(|_| payment.state == State::Declined),
            refund_reason: payment.refund_reason,
            created_at: payment.created_at,
            updated_at: payment.updated_at,
            version: payment.version,
            trace_id: payment.trace_id,
        }
    }
}

/// Have a payment refunded.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "The parcel was lost."}))]
struct AskForRefund {
    /// Why; the customer can read it. Any text but the character U+0000.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\x00]*$")]
    reason: Option<String>,
}

impl AskForRefund {
    fn reason(self) -> Result<Option<String>, Problem> {
        let wrong =
            |reason: &String| reason.is_empty() || reason.chars().count() > REASON_MAX_CHARS || reason.contains('\0');
        if self.reason.as_ref().is_some_and(wrong) {
            return Err(Problem::unprocessable("The reason cannot be used; correct it, or leave it out.")
                .field("/reason", format!("must be text of 1 to {REASON_MAX_CHARS} characters, none of them U+0000")));
        }
        Ok(self.reason)
    }
}

/// See the payment for an order
///
/// Customers see those of their own orders, operators all.
#[utoipa::path(
    get, path = "/payments/{order_id}", tag = "payments", security(("bearer" = [])),
    params(("order_id" = Uuid, Path, description = "The order whose payment it is", example = "0190163d-8694-739b-aea5-966c26f8ad91"),
           ("If-None-Match" = Option<String>, Header, description = "The ETag of what you have")),
    responses(
        (status = 200, description = "The payment", body = PaymentView,
         headers(("ETag" = String, description = "The version of this representation"),
                 ("Cache-Control" = String, description = "Only for the asker, and only after asking whether it is current"),
                 ("traceparent" = String, description = "The trace of this request (W3C Trace Context)"))),
        (status = 304, description = "You have the current version",
         headers(("ETag" = String, description = "The version that you have"),
                 ("traceparent" = String, description = "The trace of this request (W3C Trace Context)"))),
        (status = 400, response = openapi::Malformed),
        (status = 401, response = openapi::Unauthenticated),
        (status = 404, response = openapi::NotFound),
        (status = 408, response = openapi::TooSlow),
        (status = 413, response = openapi::TooLarge),
        (status = 431, response = openapi::HeadTooLarge),
        (status = 500, response = openapi::Internal),
        (status = 503, response = openapi::Unavailable),
    )
)]
#[actix_web::get("/payments/{order_id}")]
async fn show(
    identity: Identity,
    order_id: Path<Uuid>,
    request: HttpRequest,
    outbox: Data<Outbox>,
) -> Result<HttpResponse, Error> {
    let mut db = outbox.pool().acquire().await?;
    let payment = Payment::of_order(&mut db, *order_id).await?;
    let may_see = |payment: &Payment| identity.role == Role::Operator || identity.user_id == payment.user_id;
    let payment = payment.filter(may_see).ok_or(Error::NotFound)?;
    let known = etag::is_known(&request, payment.version);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(etag::of(payment.version)).insert_header((CACHE_CONTROL, "private, no-cache"));
    Ok(if known { response.finish() } else { response.json(PaymentView::from(payment)) })
}

/// Have a payment refunded
///
/// For operators. All of it goes back, once: asking again gives the same answer, however often, and however many ask at the same time. An
/// order that is not confirmed when the money is back is cancelled by it; one that is stays as it is. The body may be left out.
#[utoipa::path(
    post, path = "/payments/{order_id}/refunds", tag = "payments", security(("bearer" = [])),
    params(("order_id" = Uuid, Path, description = "The order whose payment it is", example = "0190163d-8694-739b-aea5-966c26f8ad91"),
           ("If-Match" = Option<String>, Header, description = "The ETag of what you decided upon; refused if it has changed since")),
    request_body(content = Option<AskForRefund>, description = "Why, if you want to say it"),
    responses(
        (status = 202, description = "The money goes back, or went back already", body = PaymentView,
         headers(("Location" = String, description = "Where to look what became of it"),
                 ("ETag" = String, description = "The version of this representation"),
                 ("traceparent" = String, description = "The trace of this request (W3C Trace Context)"))),
        (status = 400, response = openapi::Malformed),
        (status = 401, response = openapi::Unauthenticated),
        (status = 403, response = openapi::OperatorsOnly),
        (status = 404, response = openapi::NotFound),
        (status = 408, response = openapi::TooSlow),
        (status = 409, response = openapi::NothingToRefund),
        (status = 412, response = openapi::VersionMoved),
        (status = 413, response = openapi::TooLarge),
        (status = 415, response = openapi::NotJson),
        (status = 422, response = openapi::InvalidFields),
        (status = 431, response = openapi::HeadTooLarge),
        (status = 500, response = openapi::Internal),
        (status = 503, response = openapi::Unavailable),
    )
)]
#[actix_web::post("/payments/{order_id}/refunds")]
async fn refund(
    Operator(operator): Operator,
    order_id: Path<Uuid>,
    request: HttpRequest,
    outbox: Data<Outbox>,
    Optional(wish): Optional<AskForRefund>,
) -> Result<HttpResponse, Error> {
    let reason = wish.reason()?;
    let mut tx = outbox.begin().await?;
    let mut payment = Payment::lock_of_order(&mut tx, *order_id).await?.ok_or(Error::NotFound)?;
    // Whoever asks again, because no answer came, names the version from before (RFC 9110 §13.1.1).
    if !payment.state.gives_back() && payment.state != State::Refunded {
        etag::allow(&request, payment.version)?;
    }
    let before = payment.state;
    settle(&mut payment, Fact::RefundAsked, &mut tx).await?.map_err(Error::NothingToRefund)?;
    if payment.state != before {
        payment.refund_asked(&mut tx, operator.user_id, reason).await?;
        tracing::info!(payment = %payment.id, by = %operator.user_id, "a payment is to be refunded");
    }
    tx.commit().await?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/payments/{}", payment.order_id)))
        .insert_header(etag::of(payment.version))
        .json(PaymentView::from(payment)))
}
