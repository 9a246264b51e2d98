//! The routes, for operators only, and what they share. Each resource is in a file of its own under `http/`.

mod lines;
mod summary;
mod words;

use actix_web::web::{Data, ServiceConfig, get, resource};
use messaging::Outbox;
use sqlx::PgConnection;
use utoipa::OpenApi;
use web::auth::Verifier;

/// The routes with what they need.
pub(crate) fn routes(verifier: Verifier, outbox: Outbox) -> impl Fn(&mut ServiceConfig) + Send + Sync + 'static {
    move |config| {
        config
            .app_data(Data::new(outbox.clone()))
            .app_data(verifier.clone())
            .service(resource("/access-logs").route(get().to(lines::list)))
            .service(resource("/access-logs/summary").route(get().to(summary::show)));
    }
}

/// The document at `/openapi.json`.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "access-log",
            description = "A line for each request that any service answered, and how each route does. Probes, metrics and documentation \
                are left out. Lines are written fire-and-forget: a service that is in trouble may drop some, and counts them. Every failure is \
                `application/problem+json` (RFC 9457) with a sentence that says what to do and the `trace_id` of the request.",
            license(name = "MIT OR Apache-2.0")
        ),
        tags((name = "access log", description = "For operators")),
        paths(lines::list, summary::show),
        components(schemas(lines::LineView, summary::SummaryView, summary::RouteView))
    )]
    struct Api;
    Api::openapi()
}

/// Questions about many lines can take long; the ones behind them must not wait for ever. For the transaction.
async fn within_limits(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    // As `set local`: until the transaction ends.
    sqlx::query!("select set_config('statement_timeout', '10s', true)").fetch_one(db).await?;
    Ok(())
}
