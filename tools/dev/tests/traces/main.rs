//! The trace backend through its doors: OTLP/gRPC as an exporter speaks it, Jaeger's query API, and the pages.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod browser;
mod spans;
mod webdriver;

use dev::traces::TraceStore;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::any_value::Value,
    trace::v1::{Span, Status, span},
};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use spans::{attribute, spans_of};

const TRACE: [u8; 16] = [0x0a; 16];
const TRACE_ID: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

fn span(id: u8, parent: u8, name: &str, kind: span::SpanKind, start_us: u64, end_us: u64) -> Span {
    Span {
        trace_id: TRACE.to_vec(),
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: start_us * 1_000,
        end_time_unix_nano: end_us * 1_000,
        ..Span::default()
    }
}

/// A request to users that ends with a mail of notifications that was refused.
async fn with_a_trace() -> TraceStore {
    let traces = TraceStore::start(([127, 0, 0, 1], 0), ([127, 0, 0, 1], 0)).await.unwrap();
    let mut root = span(1, 0, "POST /users", span::SpanKind::Server, 1_000_000, 1_009_000);
    root.attributes = vec![
        attribute("http.response.status_code", Value::IntValue(202)),
        attribute("retried", Value::BoolValue(false)),
        attribute("share", Value::DoubleValue(0.5)),
    ];
    root.events = vec![span::Event {
        time_unix_nano: 1_001_000_000,
        name: "password hashed".to_owned(),
        attributes: vec![attribute("algorithm", Value::StringValue("argon2id".to_owned()))],
        ..span::Event::default()
    }];
    let mut mail = span(2, 1, "send mail", span::SpanKind::Client, 1_010_000, 1_050_000);
    mail.status = Some(Status { message: "550 <nobody>".to_owned(), code: 2 });
    mail.links = vec![span::Link { trace_id: vec![0x0b; 16], span_id: vec![9; 8], ..span::Link::default() }];
    for group in [spans_of("notifications", vec![mail]), spans_of("users", vec![root])] {
        spans::send(&traces, vec![group]).await;
    }
    traces
}

async fn get(traces: &TraceStore, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(traces.http_addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn data(traces: &TraceStore, path: &str) -> Json {
    let (status, body) = get(traces, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str::<Json>(&body).unwrap()["data"].take()
}

#[tokio::test]
async fn a_trace_is_given_in_jaegers_json() {
    let traces = with_a_trace().await;
    let trace = &data(&traces, &format!("/api/traces/{TRACE_ID}")).await[0];
    assert_eq!(trace["traceID"], TRACE_ID);
    let root = &trace["spans"][0];
    assert_eq!(root["operationName"], "POST /users");
    assert_eq!((&root["startTime"], &root["duration"]), (&json!(1_000_000), &json!(9_000)), "microseconds");
    assert_eq!(root["references"], json!([]));
    let tags = root["tags"].as_array().unwrap();
    for tag in [
        json!({ "key": "http.response.status_code", "type": "int64", "value": 202 }),
        json!({ "key": "retried", "type": "bool", "value": false }),
        json!({ "key": "share", "type": "float64", "value": 0.5 }),
        json!({ "key": "span.kind", "type": "string", "value": "server" }),
        json!({ "key": "otel.scope.name", "type": "string", "value": "test" }),
    ] {
        assert!(tags.contains(&tag), "{tag} in {tags:?}");
    }
    let fields = json!([{ "key": "event", "type": "string", "value": "password hashed" }, { "key": "algorithm", "type": "string", "value": "argon2id" }]);
    assert_eq!(root["logs"], json!([{ "timestamp": 1_001_000, "fields": fields }]));
    let process = &trace["processes"][root["processID"].as_str().unwrap()];
    assert_eq!(process["serviceName"], "users");
    assert_eq!(process["tags"], json!([{ "key": "service.version", "type": "string", "value": "0.1.0" }]));

    let mail = &trace["spans"][1];
    assert_eq!(
        mail["references"][0],
        json!({ "refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": "0101010101010101" })
    );
    assert_eq!(mail["references"][1]["refType"], "FOLLOWS_FROM");
    assert!(mail["tags"].as_array().unwrap().contains(&json!({ "key": "error", "type": "bool", "value": true })));
    assert_eq!(trace["processes"][mail["processID"].as_str().unwrap()]["serviceName"], "notifications");
}

#[tokio::test]
async fn traces_are_found_by_service_and_what_is_missing_is_said() {
    let traces = with_a_trace().await;
    assert_eq!(data(&traces, "/api/services").await, json!(["notifications", "users"]));
    assert_eq!(data(&traces, "/api/services/users/operations").await, json!(["POST /users"]));
    assert_eq!(
        data(&traces, "/api/operations?service=notifications").await,
        json!([{ "name": "send mail", "spanKind": "client" }])
    );
    assert_eq!(
        data(&traces, "/api/traces?service=users&limit=5").await[0]["spans"].as_array().unwrap().len(),
        2,
        "the whole trace"
    );
    assert_eq!(
        data(&traces, "/api/traces?service=users&operation=POST+%2Fusers&minDuration=9ms")
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(data(&traces, "/api/traces?service=users&lookback=1h").await, json!([]), "the spans are from 1970");
    assert_eq!(data(&traces, "/api/traces?service=orders").await, json!([]));
    assert_eq!(get(&traces, "/api/traces").await.0, 400);
    let (status, body) = get(&traces, "/api/traces/123").await;
    assert_eq!(status, 404);
    assert_eq!(serde_json::from_str::<Json>(&body).unwrap()["errors"][0]["msg"], "trace not found");
}

#[tokio::test]
async fn a_person_sees_a_list_and_a_waterfall() {
    let traces = with_a_trace().await;
    let (_, list) = get(&traces, "/").await;
    assert!(list.contains(&format!("href=\"/trace/{TRACE_ID}\">POST /users</a>")), "{list}");
    let (status, page) = get(&traces, &format!("/trace/{TRACE_ID}")).await;
    assert_eq!(status, 200);
    assert!(page.contains("send mail") && page.contains("40.0 ms"), "{page}");
    assert!(page.contains("550 &lt;nobody&gt;"), "what is sent is shown as text: {page}");
    // It begins after 10 of 50 ms and takes 40.
    assert!(page.contains("x=\"20.000%\" y=7 width=\"80.000%\""), "{page}");
    assert_eq!(get(&traces, "/trace/123").await.0, 404);
    let (status, refused) = get(&traces, "/search?minDuration=%3Cb%3Elong").await;
    assert_eq!(status, 400);
    assert!(refused.contains("minDuration: &lt;b&gt;long is not a duration"), "{refused}");
}

#[tokio::test]
async fn dependencies_are_those_of_jaeger() {
    let traces = with_a_trace().await;
    let found = data(&traces, "/api/dependencies?endTs=5000&lookback=5000").await;
    assert_eq!(found, json!([{ "parent": "users", "child": "notifications", "callCount": 1 }]));
    assert_eq!(
        data(&traces, "/api/dependencies?endTs=5000&lookback=10").await,
        json!([]),
        "the trace is from 1 s after 1970"
    );
    assert_eq!(data(&traces, "/api/dependencies").await, json!([]), "a day until now");
    assert_eq!(get(&traces, "/api/dependencies?endTs=soon").await.0, 400);
    assert_eq!(get(&traces, "/api/operations").await.0, 400, "the service is required");
    assert_eq!(data(&traces, "/api/operations?service=users&spanKind=client").await, json!([]));
}

#[tokio::test]
async fn a_span_with_a_bad_id_is_rejected_and_its_neighbours_are_kept() {
    let traces = TraceStore::start(([127, 0, 0, 1], 0), ([127, 0, 0, 1], 0)).await.unwrap();
    let mut bad = span(3, 0, "bad", span::SpanKind::Internal, 1, 2);
    bad.trace_id = vec![0; 16];
    let good = span(4, 0, "good", span::SpanKind::Internal, 1, 2);
    let mut client = TraceServiceClient::connect(format!("http://{}", traces.otlp_addr())).await.unwrap();
    let request = ExportTraceServiceRequest { resource_spans: vec![spans_of("users", vec![bad, good])] };
    let answer = client.export(request).await.unwrap().into_inner();
    assert_eq!(answer.partial_success.unwrap().rejected_spans, 1);
    let names: Vec<_> = traces.spans(TRACE_ID).iter().map(|span| span.name.clone()).collect();
    assert_eq!(names, ["good"]);
}
