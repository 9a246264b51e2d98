//! `/livez`, `/readyz` and `/metrics`. Live means that the process answers; ready means that requests can be served,
//! and why not. What is only reported (a broker, a mail server) never takes a service out of the load balancer.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::header, web::Data};
use futures_util::future::join_all;
use serde::Serialize;

use crate::server::Shared;

/// A check that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(2);

type Outcome = Result<(), String>;
type Results = Vec<(String, Outcome)>;
type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Results> + Send>> + Send + Sync>;

/// The checks behind `/readyz`. They run at the same time, each with two seconds.
///
/// ```
/// let readiness = web::Readiness::new()
///     .required("database", || async { Ok(()) })
///     .reported("messaging", || async { vec![("relay".to_owned(), Err("no lanes held".to_owned()))] });
/// ```
#[derive(Clone, Default)]
pub struct Readiness(Vec<Check>);

#[derive(Clone)]
struct Check {
    name: &'static str,
    required: bool,
    probe: Probe,
}

/// The answer of `/readyz`.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Report {
    /// Whether requests can be served.
    ready: bool,
    checks: Vec<CheckReport>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct CheckReport {
    name: String,
    /// Only a failed check that is required makes the service unready.
    required: bool,
    ok: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Readiness {
    /// No checks: always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Without this, requests cannot be served: `/readyz` answers 503 with the reason.
    #[must_use]
    pub fn required<F, Fut>(self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.add(
            name,
            true,
            Arc::new(move || {
                let outcome = check();
                Box::pin(async move { vec![(String::new(), outcome.await)] })
            }),
        )
    }

    /// Shown with its parts as `name.part`, for people; it never changes the status.
    #[must_use]
    pub fn reported<F, Fut>(self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<(String, Result<(), String>)>> + Send + 'static,
    {
        self.add(name, false, Arc::new(move || Box::pin(check())))
    }

    fn add(mut self, name: &'static str, required: bool, probe: Probe) -> Self {
        self.0.push(Check { name, required, probe });
        self
    }

    async fn report(&self) -> Report {
        let checks: Vec<_> = join_all(self.0.iter().map(Check::run)).await.into_iter().flatten().collect();
        Report { ready: checks.iter().all(|check| check.ok || !check.required), checks }
    }
}

impl Check {
    async fn run(&self) -> Vec<CheckReport> {
        let results = tokio::time::timeout(TIMEOUT, (self.probe)()).await;
        let results = results
            .unwrap_or_else(|_elapsed| vec![(String::new(), Err(format!("no answer within {} s", TIMEOUT.as_secs())))]);
        let report = |(part, outcome): (String, Outcome)| CheckReport {
            name: if part.is_empty() { self.name.to_owned() } else { format!("{}.{part}", self.name) },
            required: self.required,
            ok: outcome.is_ok(),
            reason: outcome.err(),
        };
        results.into_iter().map(report).collect()
    }
}

/// Says that the process answers.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "The process answers.")))]
pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(serde_json::json!({"live": true}))
}

/// Says whether requests can be served, and why not.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "Requests can be served.", body = Report),
    (status = 503, description = "A required check fails.", body = Report),
))]
pub(crate) async fn readyz(shared: Data<Shared>) -> HttpResponse {
    let report = shared.readiness.report().await;
    let mut response = if report.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(report)
}

/// The metrics of this process, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "Prometheus text format.", content_type = "text/plain", body = String),
))]
pub(crate) async fn metrics() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(telemetry::render_metrics())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_has_failed_and_holds_up_no_other() {
        let readiness = Readiness::new()
            .required("hangs", std::future::pending)
            .required("answers", || async { Ok(()) })
            .reported("hangs too", std::future::pending);
        let started = tokio::time::Instant::now();
        let report = readiness.report().await;
        assert_eq!(started.elapsed(), TIMEOUT, "one after the other");
        assert!(!report.ready);
        let ok: Vec<_> = report.checks.iter().map(|check| (check.name.as_str(), check.ok)).collect();
        assert_eq!(ok, [("hangs", false), ("answers", true), ("hangs too", false)]);
        assert_eq!(report.checks[0].reason.as_deref(), Some("no answer within 2 s"));
    }
}
