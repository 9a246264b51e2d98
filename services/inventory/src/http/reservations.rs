//! `/reservations`: what became of an order here, for its customer and for operators.

use actix_web::{HttpRequest, web::Data};
use chrono::{DateTime, Utc};
use messaging::Outbox;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use web::{
    Path,
    auth::{Identity, Role},
};

use super::{Copies, openapi};
use crate::{
    error::{Answered, Error},
    reservation::{Reason, Reservation, State},
    sku,
    stock::Lines,
};

/// What became of an order here.
#[derive(Serialize, ToSchema)]
#[schema(as = Reservation, example = json!({
    "order_id": "0190163d-8694-739b-aea5-966c26f8ad91",
    "user_id": "0190163d-0c4b-7a3e-8a55-0f6f1c7b1a11",
    "state": "held",
    "lines": [{"sku": "MUG-01", "quantity": 2}],
    "expires_at": "2026-11-23T09:40:11.120Z",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "created_at": "2026-11-23T09:10:11.120Z",
    "updated_at": "2026-11-23T09:10:11.120Z",
    "version": 1
}))]
struct ReservationView {
    order_id: Uuid,
    /// Whose order it is.
    user_id: Uuid,
    state: State,
    /// Why it is released or rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<Reason>,
    /// The first product that was missing, if it is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = sku::schema)]
    missing_sku: Option<String>,
    /// What the order wanted; nothing if it was cancelled before it was heard of.
    lines: Vec<LineView>,
    /// When what is, or was, held may go to somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<Utc>>,
    /// The trace of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{32}$")]
    trace_id: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Grows with every change; also the ETag.
    #[schema(minimum = 1)]
    version: i64,
}

/// So many pieces of a product.
#[derive(Serialize, ToSchema)]
#[schema(as = ReservationLine)]
struct LineView {
    #[schema(schema_with = sku::schema)]
    sku: String,
    #[schema(minimum = 1)]
    quantity: i64,
}

impl ReservationView {
    fn of(reservation: Reservation, lines: &Lines) -> Self {
        let line = |(sku, quantity): (&sku::Sku, i64)| LineView { sku: sku.as_str().to_owned(), quantity };
        Self {
            order_id: reservation.order_id,
            user_id: reservation.user_id,
            state: reservation.state,
            reason: reservation.reason,
            missing_sku: reservation.missing_sku,
            lines: lines.iter().map(line).collect(),
            expires_at: reservation.expires_at,
            trace_id: reservation.trace_id,
            created_at: reservation.created_at,
            updated_at: reservation.updated_at,
            version: reservation.version,
        }
    }
}

/// See what became of an order here
#[utoipa::path(
    get, path = "/reservations/{order_id}", operation_id = "show_reservation", tag = "reservations", security(("bearer" = [])),
    params(("order_id" = Uuid, Path, description = "The order"), openapi::IfNoneMatch),
    responses(
        (status = 200, description = "The reservation", body = ReservationView, headers(
            ("ETag" = String, description = "Its version"),
            ("Cache-Control" = String, description = "`private, no-cache`"),
        )),
        (status = 304, description = "You have this version", headers(("ETag" = String, description = "Its version"))),
        (status = 400, response = openapi::Malformed),
        (status = 401, response = openapi::Unauthenticated),
        (status = 404, response = openapi::NoReservation),
    )
)]
pub(super) async fn show(
    identity: Identity,
    order_id: Path<Uuid>,
    request: HttpRequest,
    outbox: Data<Outbox>,
) -> Answered {
    let mut db = outbox.pool().acquire().await?;
    let reservation = Reservation::load(&mut db, *order_id).await?;
    let may_see = |found: &Reservation| identity.role == Role::Operator || found.user_id == identity.user_id;
    // Whether somebody else's order exists is nobody's business.
    let reservation = reservation.filter(may_see).ok_or(Error::NoReservation)?;
    let lines = Reservation::lines(&mut db, reservation.order_id).await?;
    let version = reservation.version;
    Ok(super::show(&request, version, Copies::Asker, ReservationView::of(reservation, &lines)))
}
