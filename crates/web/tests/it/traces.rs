//! Every request is a span in the caller's trace.

use opentelemetry::{
    Value,
    trace::{SpanKind, Status},
};
use telemetry::testing::{SpanData, spans_of};
use uuid::Uuid;

use crate::app::{Answer, App, start};

/// A request within a trace that the test knows, and the spans of that trace.
async fn traced(app: &App, path: &str, flags: &str) -> (Answer, String, Vec<SpanData>) {
    let trace_id = Uuid::new_v4().simple().to_string();
    let traceparent = format!("traceparent: 00-{trace_id}-00f067aa0ba902b7-{flags}\r\n");
    let answer = app.get_and_close(path, &traceparent).await;
    let spans = spans_of(&trace_id);
    (answer, trace_id, spans)
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.clone())
}

#[tokio::test]
async fn a_callers_trace_goes_on() {
    let app = start();
    let (answer, trace_id, spans) = traced(&app, "/things/7", "01").await;
    assert_eq!(answer.trace_id(), trace_id);
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(answer.header("traceparent"), format!("00-{trace_id}-{}-01", span.span_context.span_id()));
}

#[tokio::test]
async fn a_request_without_a_trace_starts_one() {
    let app = start();
    let one = app.get_and_close("/things/7", "").await;
    let two = app.get_and_close("/things/7", "").await;
    assert_ne!(one.trace_id(), two.trace_id());
    assert_eq!(spans_of(&one.trace_id()).len(), 1);
}

#[tokio::test]
async fn the_span_says_what_was_asked_and_how_it_ended() {
    let app = start();
    let (_, _, spans) = traced(&app, "/things/7", "01").await;
    let span = &spans[0];
    assert_eq!(span.name, "GET /things/{id}");
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(attribute(span, "http.request.method"), Some("GET".into()));
    assert_eq!(attribute(span, "http.route"), Some("/things/{id}".into()));
    assert_eq!(attribute(span, "http.response.status_code"), Some(400.into()));
    assert_eq!(attribute(span, "url.path"), Some("/things/7".into()));
    assert_eq!(attribute(span, "url.scheme"), Some("http".into()));
    assert_eq!(attribute(span, "server.address"), Some("x".into()));
    assert_eq!(attribute(span, "network.protocol.version"), Some("1.1".into()));
    assert_eq!(span.status, Status::Unset, "a client's mistake is no error of the server");
    assert_eq!(attribute(span, "error.type"), None);

    let (_, _, spans) = traced(&app, "/panic", "01").await;
    assert_eq!(attribute(&spans[0], "error.type"), Some("500".into()));
    assert!(matches!(spans[0].status, Status::Error { .. }), "{:?}", spans[0].status);
}

#[tokio::test]
async fn secrets_and_addresses_are_not_recorded() {
    let app = start();
    let (_, _, spans) = traced(&app, "/secrets/s3cr3t?token=s3cr3t", "01").await;
    let recorded = format!("{:?}", spans[0]);
    assert!(!recorded.contains("s3cr3t") && !recorded.contains("127.0.0.1"), "{recorded}");
    assert_eq!(attribute(&spans[0], "url.path"), Some("/secrets/REDACTED".into()));
}

#[tokio::test]
async fn an_unsampled_trace_keeps_its_ids_and_is_not_recorded() {
    let app = start();
    let (answer, trace_id, spans) = traced(&app, "/things/7", "00").await;
    assert_eq!(answer.trace_id(), trace_id);
    assert!(answer.header("traceparent").ends_with("-00"));
    assert_eq!(answer.problem(400, "bad-request")["trace_id"], trace_id);
    assert!(spans.is_empty(), "{spans:?}");
}

#[tokio::test]
async fn what_the_caller_says_of_the_trace_reaches_the_handler() {
    let app = start();
    let trace_id = Uuid::new_v4().simple();
    let headers =
        format!("traceparent: 00-{trace_id}-00f067aa0ba902b7-01\r\ntracestate: vendor=x\r\nbaggage: order=7\r\n");
    let seen = app.get_and_close("/context", &headers).await.json();
    assert_eq!(seen["tracestate"], "vendor=x");
    assert_eq!(seen["baggage"], "order=7");
    assert_eq!(seen["trace_id"], trace_id.to_string());
}

#[tokio::test]
async fn probes_have_ids_and_are_not_recorded_unless_the_caller_records() {
    let app = start();
    let answer = app.get_and_close("/readyz", "").await;
    assert!(answer.header("traceparent").ends_with("-00"), "{}", answer.header("traceparent"));
    assert!(spans_of(&answer.trace_id()).is_empty());
    let (_, _, spans) = traced(&app, "/readyz", "01").await;
    assert_eq!(spans.len(), 1);
}
