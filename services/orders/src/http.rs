//! The API: placing orders, looking at them, following them live, cancelling them. Each is in a file of its own under `http/`.

mod cancelling;
mod openapi;
mod placing;
mod reading;
mod stream;
mod view;

use actix_web::web::{Data, ServiceConfig, get, post, resource};
use messaging::Outbox;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use uuid::Uuid;
use web::auth::{Identity, Role, Verifier};

use crate::{CustomerOptions, StreamOptions, error::Error, order::Order, progress::Progress, watch::Watch};

/// What the routes work with.
pub(crate) struct State {
    pub(crate) outbox: Outbox,
    pub(crate) progress: Progress,
    pub(crate) watch: Watch,
    pub(crate) streams: StreamOptions,
    pub(crate) limits: CustomerOptions,
    /// Cancelled when the process is to stop.
    pub(crate) stop: CancellationToken,
}

/// The routes with what they need.
pub(crate) fn routes(verifier: Verifier, state: Data<State>) -> impl Fn(&mut ServiceConfig) + Send + Sync + 'static {
    move |config| {
        config
            .app_data(state.clone())
            .app_data(verifier.clone())
            .service(resource("/orders").route(get().to(reading::list)).route(post().to(placing::place)))
            .service(resource("/orders/{id}").route(get().to(reading::show)))
            .service(resource("/orders/{id}/cancellation").route(post().to(cancelling::cancel)))
            .service(resource("/orders/{id}/timeline").route(get().to(reading::timeline)))
            .service(resource("/orders/{id}/stream").route(get().to(stream::stream)));
    }
}

/// Their description.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    openapi::Document::openapi()
}

/// Whose orders somebody may see; `None`: everybody's.
fn reader(identity: Identity) -> Option<Uuid> {
    match identity.role {
        Role::Customer => Some(identity.user_id),
        Role::Operator => None,
    }
}

/// The order, if the asker may see it. Somebody else's does not exist.
fn visible(order: Option<Order>, identity: Identity) -> Result<Order, Error> {
    order.filter(|order| reader(identity).is_none_or(|user_id| user_id == order.user_id)).ok_or(Error::NotFound)
}

async fn load(db: &mut PgConnection, id: Uuid, identity: Identity) -> Result<Order, Error> {
    visible(Order::load(db, id).await?, identity)
}
