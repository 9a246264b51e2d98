//! Every finished request becomes a line of the access log. The `access-log` service collects them; nothing here waits for it.

use events::access_log::v1::RequestLogged;
use messaging::Logs;
use uuid::Uuid;
use web::Finished;

/// Writes a line for each request.
pub(crate) fn observer(logs: Logs) -> impl Fn(Finished) + Send + Sync + 'static {
    move |finished| logs.publish(&line(finished))
}

fn line(finished: Finished) -> RequestLogged {
    RequestLogged {
        request_id: Uuid::now_v7().to_string(),
        at: Some(finished.started_at.into()),
        instance: telemetry::instance_id().to_owned(),
        method: finished.method.to_owned(),
        route: finished.route,
        status: finished.status.into(),
        duration_us: u64::try_from(finished.duration.as_micros()).unwrap_or(u64::MAX),
        request_bytes: finished.request_bytes,
        response_bytes: finished.response_bytes,
        client_network: finished.client_network.unwrap_or_default(),
        user_agent: finished.user_agent.unwrap_or_default().to_owned(),
        trace_id: finished.trace_id.unwrap_or_default(),
    }
}
