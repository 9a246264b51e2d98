//! The questions that the page asks Prometheus. The list is fixed: no question comes from a browser.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{all, json};
use crate::{endpoint::encode, state::Ports};

/// As many points as a small graph can show.
const POINTS: u64 = 90;

/// Where the stack's Prometheus listens.
pub(super) fn port(ports: Ports) -> u16 {
    ports.prometheus()
}

/// How far back the graphs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) name: &'static str,
    pub(super) seconds: u64,
}

pub(super) const RANGES: [Range; 3] = [
    Range { name: "15 min", seconds: 15 * 60 },
    Range { name: "1 h", seconds: 60 * 60 },
    Range { name: "6 h", seconds: 6 * 60 * 60 },
];

impl Range {
    /// One of the list; the shortest if there is none of that name.
    pub(super) fn named(name: Option<&str>) -> Self {
        let [shortest, ..] = RANGES;
        RANGES.into_iter().find(|range| Some(range.name) == name).unwrap_or(shortest)
    }
}

/// What numbers of a graph are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Number,
    PerSecond,
    PerMinute,
    Seconds,
    Share,
}

/// What is drawn together.
struct Question {
    title: &'static str,
    note: &'static str,
    unit: Unit,
    /// A query, and what its line is called where it has no label that says so.
    queries: &'static [(&'static str, &'static str)],
}

/// One line of a graph.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Seconds since 1970, and the value. Where there is none, there is no point.
    pub(super) points: Vec<(f64, f64)>,
}

pub(super) struct Graph {
    pub(super) title: &'static str,
    pub(super) note: &'static str,
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line>,
    /// Seconds since 1970.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Something that an operator should know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) name: String,
    pub(super) firing: bool,
    pub(super) severity: String,
    pub(super) summary: String,
    pub(super) runbook: String,
    pub(super) since: String,
}

const QUESTIONS: [Question; 8] = [
    Question {
        title: "Requests",
        note: "per second, by service",
        unit: Unit::PerSecond,
        queries: &[("sum by (service, job) (rate(http_server_request_duration_seconds_count[1m]))", "")],
    },
    Question {
        title: "Errors",
        note: "share of requests that were answered with 5xx, by service",
        unit: Unit::Share,
        queries: &[(
            "(sum by (service, job) (rate(http_server_request_duration_seconds_count{status=~\"5..\"}[1m])) \
              or 0 * sum by (service, job) (rate(http_server_request_duration_seconds_count[1m]))) \
              / (sum by (service, job) (rate(http_server_request_duration_seconds_count[1m])) > 0)",
            "",
        )],
    },
    Question {
        title: "Duration of requests",
        note: "95 of 100 are faster, by service",
        unit: Unit::Seconds,
        queries: &[(
            "histogram_quantile(0.95, sum by (service, job, le) (rate(http_server_request_duration_seconds_bucket[2m])))",
            "",
        )],
    },
    Question {
        title: "Oldest event in the outbox",
        note: "how long it has waited, by service",
        unit: Unit::Seconds,
        queries: &[("max by (service, job) (messaging_outbox_oldest_age_seconds)", "")],
    },
    Question {
        title: "Events",
        note: "per second, of all services",
        unit: Unit::PerSecond,
        queries: &[
            ("sum(rate(messaging_published_total[1m]))", "published"),
            ("sum(rate(messaging_handled_total[1m]))", "handled"),
        ],
    },
    Question {
        title: "Parked messages and dead letters",
        note: "that are there now, of all services",
        unit: Unit::Number,
        // Each replica counts the same rows.
        queries: &[
            ("sum(max by (service, job) (messaging_parked))", "parked"),
            ("sum(max by (service, job) (messaging_dead_letters))", "dead"),
        ],
    },
    Question {
        title: "Orders",
        note: "per minute, by the state that they reach",
        unit: Unit::PerMinute,
        queries: &[("sum by (state) (rate(orders_total[1m])) * 60", "")],
    },
    Question {
        title: "Messages in queues",
        note: "ready and in hand, by queue",
        unit: Unit::Number,
        queries: &[(
            "sum by (queue) (rabbitmq_detailed_queue_messages) or sum by (queue) (rabbitmq_queue_messages)",
            "all queues",
        )],
    },
];

/// `Err` says why Prometheus tells nothing.
pub(super) async fn graphs(ports: Ports, range: Range) -> Result<Vec<Graph>, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let (from, to) = (now.saturating_sub(range.seconds), now);
    ask(port(ports), from, to).await
}

async fn ask(port: u16, from: u64, to: u64) -> Result<Vec<Graph>, String> {
    let step = ((to - from) / POINTS).max(1);
    let queries = QUESTIONS.iter().flat_map(|question| question.queries);
    let asked = queries
        .map(|(query, _)| {
            let path = format!("/api/v1/query_range?query={}&start={from}&end={to}&step={step}", encode(query));
            async move { json(port, &path).await }
        })
        .collect();
    let mut answers = all(asked).await.into_iter();
    let mut graphs = Vec::with_capacity(QUESTIONS.len());
    for question in &QUESTIONS {
        let mut lines = Vec::new();
        for ((_, name), answer) in question.queries.iter().zip(&mut answers) {
            lines.extend(parse(&answer?, name)?);
        }
        graphs.push(Graph { title: question.title, note: question.note, unit: question.unit, lines, from, to });
    }
    Ok(graphs)
}

fn parse(answer: &Value, name: &str) -> Result<Vec<Line>, String> {
    if answer["status"] != "success" {
        return Err(answer["error"].as_str().unwrap_or("it answers something else than Prometheus would").to_owned());
    }
    let of = |series: &Value| {
        let labels =
            ["service", "job", "state", "queue"].into_iter().filter_map(|label| series["metric"][label].as_str());
        let point = |pair: &Value| {
            let value: f64 = pair[1].as_str()?.parse().ok()?;
            value.is_finite().then_some((pair[0].as_f64()?, value))
        };
        Line {
            name: labels.into_iter().find(|label| !label.is_empty()).unwrap_or(name).to_owned(),
            points: series["values"].as_array().into_iter().flatten().filter_map(point).collect(),
        }
    };
    let mut lines: Vec<Line> = answer["data"]["result"].as_array().into_iter().flatten().map(of).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(lines)
}

/// What fires comes first.
pub(super) async fn alerts(ports: Ports) -> Result<Vec<Alert>, String> {
    let answer = json(port(ports), "/api/v1/alerts").await?;
    let mut alerts: Vec<Alert> = answer["data"]["alerts"].as_array().into_iter().flatten().map(alert).collect();
    alerts.sort_by_key(|alert| {
        (!alert.firing, alert.severity != "critical" && alert.severity != "page", alert.name.clone())
    });
    Ok(alerts)
}

fn alert(alert: &Value) -> Alert {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (labels, notes) = (&alert["labels"], &alert["annotations"]);
    let runbook = if notes["runbook"].is_string() { &notes["runbook"] } else { &notes["runbook_url"] };
    Alert {
        name: text(&labels["alertname"]),
        firing: alert["state"] == "firing",
        severity: text(&labels["severity"]),
        summary: text(if notes["summary"].is_string() { &notes["summary"] } else { &notes["description"] }),
        runbook: text(runbook),
        since: text(&alert["activeAt"]).get(..19).unwrap_or_default().replace('T', " "),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hyper::StatusCode;
    use serde_json::json;
    use tokio::{net::TcpListener, task::JoinSet};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http_server;

    /// In the format of Prometheus’ HTTP API.
    fn recorded(query: &str) -> Value {
        let series = |labels: Value, values: Value| json!({ "metric": labels, "values": values });
        let result = if query.contains("messaging_published_total") {
            json!([series(json!({}), json!([[1_000, "0.5"], [1_010.5, "NaN"], [1_020, "2"]]))])
        } else if query.starts_with("sum by (service, job) (rate(http") {
            json!([
                series(json!({ "job": "services", "service": "users" }), json!([[1_000, "1"]])),
                series(json!({ "job": "services", "service": "orders" }), json!([[1_000, "3"]])),
            ])
        } else {
            json!([])
        };
        json!({ "status": "success", "data": { "resultType": "matrix", "result": result } })
    }

    #[tokio::test]
    async fn graphs_are_made_of_what_prometheus_answers() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let mut server = JoinSet::new();
        server.spawn(http_server::serve(listener, CancellationToken::new(), move |ask| {
            let of = |name: &str| ask.query(name).unwrap_or_default().to_owned();
            log.lock().unwrap().push((of("start"), of("end"), of("step")));
            std::future::ready(http_server::json(StatusCode::OK, &recorded(&of("query"))))
        }));
        let graphs = ask(port, 1_000, 1_900).await.unwrap();
        assert_eq!(graphs.len(), QUESTIONS.len());
        let names: Vec<&str> = graphs[0].lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["orders", "users"], "by service, though there is a job too");
        let published = graphs.iter().find(|graph| graph.title == "Events").unwrap();
        let point = vec![(1_000.0, 0.5), (1_020.0, 2.0)];
        assert_eq!(
            published.lines,
            [Line { name: "published".to_owned(), points: point }],
            "nothing where there is no number"
        );
        assert!(asked.lock().unwrap().iter().all(|asked| *asked == ("1000".into(), "1900".into(), "10".into())));
    }

    #[tokio::test]
    async fn without_prometheus_the_reason_is_said() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(ask(port, 0, 900).await.is_err_and(|reason| reason.contains("refused")));
        let error = json!({ "status": "error", "errorType": "bad_data", "error": "parse error" });
        assert_eq!(parse(&error, "").unwrap_err(), "parse error");
    }

    #[test]
    fn an_alert_says_what_it_is_about() {
        let found = alert(&json!({
            "labels": { "alertname": "DeadLetters", "severity": "warning", "service": "orders" },
            "annotations": { "summary": "orders has 1 dead letter", "runbook": "deploy/RUNBOOK.md#deadletters" },
            "state": "firing", "activeAt": "2030-01-02T03:04:05.678Z", "value": "1e+00",
        }));
        assert!(found.firing);
        assert_eq!((found.name.as_str(), found.severity.as_str()), ("DeadLetters", "warning"));
        assert_eq!((found.summary.as_str(), found.since.as_str()), ("orders has 1 dead letter", "2030-01-02 03:04:05"));
        assert_eq!(found.runbook, "deploy/RUNBOOK.md#deadletters");
    }
}
