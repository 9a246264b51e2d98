//! Each service shows itself by each signal: its traces, metrics, logs and health. And a service that stops to do so is found.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dev::{
    http::{self, Method},
    stack::Stack,
};
use serde_json::Value;

use crate::{LOOK_AGAIN, PATIENCE};

const SIGNALS: [&str; 4] = ["trace", "metric", "log", "health"];
/// Every service answers it, to everybody, and records that.
const PATH: &str = "/openapi.json";
/// Spans are sent every second; what does not come in this time does not come.
const NO_MORE: Duration = Duration::from_secs(4);

/// A service, and how it should show itself.
type Cell = (&'static str, &'static str);

pub(crate) async fn all(stack: &mut Stack) {
    each_service_shows_itself_by_each_signal(stack).await;
    a_service_that_stops_to_show_itself_is_found(stack).await;
}

async fn each_service_shows_itself_by_each_signal(stack: &Stack) {
    let missing = missing(stack, &BTreeSet::new()).await;
    assert!(missing.is_empty(), "not seen: {missing:?}");
}

async fn a_service_that_stops_to_show_itself_is_found(stack: &mut Stack) {
    stack.change("payments", "OTEL_EXPORTER_OTLP_ENDPOINT", Some(""));
    stack.change("inventory", "RUST_LOG", Some("off"));
    stack.start_services().await.unwrap();
    stack.stop_service("notifications").await.unwrap();

    let gone = SIGNALS.map(|signal| ("notifications", signal));
    let wanted: BTreeSet<Cell> = gone.into_iter().chain([("payments", "trace"), ("inventory", "log")]).collect();
    assert_eq!(missing(stack, &wanted).await, wanted);

    stack.change("payments", "OTEL_EXPORTER_OTLP_ENDPOINT", None);
    stack.change("inventory", "RUST_LOG", None);
    stack.start_services().await.unwrap();
}

/// A request to a service, in a trace that is its own.
struct Probe {
    service: &'static str,
    port: u16,
    trace_id: String,
}

/// Asks every service for something, and looks for every sign of that until no more is missing than is expected, and stays so.
async fn missing(stack: &Stack, expected: &BTreeSet<Cell>) -> BTreeSet<Cell> {
    let mut probes = Vec::new();
    for service in Stack::services() {
        probes.push(probe(stack, service).await);
    }
    let (started, mut settled) = (Instant::now(), None::<Instant>);
    loop {
        let mut missing = BTreeSet::new();
        for probe in &probes {
            for signal in SIGNALS {
                if !shows(stack, probe, signal).await {
                    missing.insert((probe.service, signal));
                }
            }
        }
        settled = (missing == *expected).then(|| settled.unwrap_or_else(Instant::now));
        let certain = expected.is_empty() || settled.is_some_and(|since| since.elapsed() > NO_MORE);
        if (settled.is_some() && certain) || started.elapsed() > PATIENCE {
            return missing;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn probe(stack: &Stack, service: &'static str) -> Probe {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let trace_id = format!("{:032x}", now.as_nanos());
    let port = stack.port(service).unwrap();
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    // One that does not run shows nothing.
    let _ = http::send(port, Method::GET, PATH, None, &[("traceparent", &traceparent)], None).await;
    Probe { service, port, trace_id }
}

async fn shows(stack: &Stack, probe: &Probe, signal: &str) -> bool {
    let Probe { service, port, trace_id } = probe;
    match signal {
        "trace" => {
            let trace = stack.shop().trace(trace_id).await.unwrap();
            trace.spans.iter().any(|span| span.service == *service && span.name == format!("GET {PATH}"))
        }
        "metric" => {
            let counted = |line: &str| {
                line.starts_with("http_server_request_duration_seconds_count{")
                    && line.contains(&format!("route=\"{PATH}\""))
                    && line.rsplit(' ').next().is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count > 0.0))
            };
            http::get(*port, "/metrics").await.is_ok_and(|answer| answer.text().lines().any(counted))
        }
        "log" => {
            let lines = stack.log(service).unwrap();
            let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.into_iter().any(|line| {
                line["trace_id"] == **trace_id
                    && line["service"] == *service
                    && line["span_id"].as_str().is_some_and(|id| id.len() == 16)
            })
        }
        "health" => {
            let alive = http::get(*port, "/livez").await.is_ok_and(|answer| answer.status == 200);
            let ready = http::get(*port, "/readyz").await.and_then(|answer| answer.success()?.json());
            alive && ready.is_ok_and(|report| report["ready"] == true)
        }
        other => panic!("there is no signal {other}"),
    }
}
