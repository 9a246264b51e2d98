//! Spans as an exporter sends them, written down shortly; and the spans of an order, as the shop makes them.

use std::time::{SystemTime, UNIX_EPOCH};

use dev::traces::TraceStore;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};

pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;

/// The trace of [`order`].
pub const ORDER: u8 = 0xa1;
/// That of the windows in which its events were sent.
pub const WINDOW: u8 = 0xb2;
/// That of a request that failed, with names and values that look like markup.
pub const ATTACK: u8 = 0xc3;

/// A trace's id, in which every byte is the same.
pub fn trace_id(trace: u8) -> String {
    format!("{trace:02x}").repeat(16)
}

/// A span's id, likewise.
pub fn span_id(id: u8) -> String {
    format!("{id:02x}").repeat(8)
}

pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

/// The spans of one process.
pub fn spans_of(service: &str, spans: Vec<Span>) -> ResourceSpans {
    let resource = Resource {
        attributes: vec![attribute("service.name", text(service)), attribute("service.version", text("0.1.0"))],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "test".to_owned(), ..InstrumentationScope::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }
}

/// Sends them as an exporter does.
pub async fn send(traces: &TraceStore, groups: Vec<ResourceSpans>) {
    let mut client = TraceServiceClient::connect(format!("http://{}", traces.otlp_addr())).await.unwrap();
    let sent = client.export(ExportTraceServiceRequest { resource_spans: groups }).await.unwrap();
    assert!(sent.into_inner().partial_success.is_none());
}

/// A span of one of the traces that began a minute ago.
struct Draft(&'static str, Span);

/// Trace, own id, parent's id (0: none), service, name, kind, begin and end in microseconds.
#[expect(clippy::too_many_arguments, reason = "a line of a table")]
fn draft(
    trace: u8,
    id: u8,
    parent: u8,
    service: &'static str,
    name: &str,
    kind: Kind,
    from_us: u64,
    to_us: u64,
) -> Draft {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let base = (now - 60) * 1_000_000_000;
    let span = Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: base + from_us * 1_000,
        end_time_unix_nano: base + to_us * 1_000,
        ..Span::default()
    };
    Draft(service, span)
}

impl Draft {
    fn with(mut self, key: &str, value: Value) -> Self {
        self.1.attributes.push(attribute(key, value));
        self
    }

    fn failed(mut self, reason: &str) -> Self {
        self.1.status = Some(Status { message: reason.to_owned(), code: 2 });
        self
    }

    fn linked(mut self, trace: u8, ids: &[u8]) -> Self {
        let link = |id: &u8| span::Link { trace_id: vec![trace; 16], span_id: vec![*id; 8], ..span::Link::default() };
        self.1.links.extend(ids.iter().map(link));
        self
    }

    fn sql(self) -> Self {
        let database = self.0;
        self.with("db.system.name", text("postgresql")).with("db.namespace", text(database))
    }
}

fn grouped(drafts: Vec<Draft>) -> Vec<ResourceSpans> {
    drafts.into_iter().map(|Draft(service, span)| spans_of(service, vec![span])).collect()
}

/// An order that is paid at the second attempt: requests, statements, events that are sent and heard, jobs, a mail.
pub fn order() -> Vec<ResourceSpans> {
    let key = "01a20a43-268f-74eb-bf52-dbfb22993196";
    let d = |id, parent, service, name: &str, kind, from, to| draft(ORDER, id, parent, service, name, kind, from, to);
    let window = |id, from, to, links: &[u8]| {
        draft(WINDOW, id, 0, "orders", "send events", Kind::Client, from, to)
            .with("messaging.system", text("rabbitmq"))
            .with("messaging.operation.type", text("send"))
            .linked(ORDER, links)
    };
    let refused = "the provider answered 503";
    grouped(vec![
        d(1, 0, "orders", "POST /orders", Kind::Server, 0, 41_000)
            .with("http.response.status_code", Value::IntValue(202)),
        d(2, 1, "orders", "SELECT price", Kind::Client, 3_000, 5_200).sql(),
        d(3, 1, "orders", "INSERT orders", Kind::Client, 9_000, 12_000).sql(),
        d(4, 1, "orders", "create orders.v1.OrderPlaced", Kind::Producer, 20_000, 20_150)
            .with("messaging.message.id", text("019a-0001"))
            .with("postrider.key", text(key)),
        d(5, 4, "inventory", "process orders.v1.OrderPlaced", Kind::Consumer, 96_000, 142_000)
            .with("postrider.outcome", text("handled")),
        d(6, 5, "inventory", "UPDATE stock", Kind::Client, 101_000, 108_000).sql(),
        d(7, 5, "inventory", "create inventory.v1.StockReserved", Kind::Producer, 120_000, 120_200),
        d(8, 7, "orders", "process inventory.v1.StockReserved", Kind::Consumer, 190_000, 214_000)
            .with("postrider.outcome", text("handled")),
        d(9, 8, "orders", "create orders.v1.PaymentDue", Kind::Producer, 205_000, 205_100),
        d(10, 9, "payments", "process orders.v1.PaymentDue", Kind::Consumer, 250_000, 256_000)
            .with("postrider.outcome", text("handled")),
        d(11, 10, "payments", "perform charge_payment", Kind::Internal, 262_000, 331_000)
            .failed(refused)
            .with("postrider.attempt", Value::IntValue(1)),
        d(12, 11, "payments", "provider charge", Kind::Client, 270_000, 330_000).failed(refused),
        d(13, 10, "payments", "perform charge_payment", Kind::Internal, 612_000, 700_000)
            .with("postrider.attempt", Value::IntValue(2)),
        d(14, 13, "payments", "provider charge", Kind::Client, 620_000, 660_000),
        d(15, 13, "payments", "create payments.v1.PaymentAuthorized", Kind::Producer, 680_000, 680_300),
        d(16, 15, "orders", "process payments.v1.PaymentAuthorized", Kind::Consumer, 720_000, 744_000)
            .with("postrider.outcome", text("handled")),
        d(17, 16, "orders", "create orders.v1.OrderConfirmed", Kind::Producer, 740_000, 740_100),
        d(18, 17, "notifications", "process orders.v1.OrderConfirmed", Kind::Consumer, 801_000, 808_000)
            .with("postrider.outcome", text("handled")),
        d(19, 18, "notifications", "perform send_email", Kind::Internal, 815_000, 890_000),
        d(20, 19, "notifications", "smtp send", Kind::Client, 822_000, 880_000)
            .with("network.protocol.name", text("smtp"))
            .with("server.address", text("127.0.0.1")),
        window(30, 44_000, 71_000, &[4]),
        window(31, 745_000, 770_000, &[17]),
    ])
}

/// A request that failed. Whatever was sent is to be shown as text.
pub fn attack() -> Vec<ResourceSpans> {
    grouped(vec![
        draft(ATTACK, 1, 0, "users", "POST /sessions", Kind::Server, 2_000, 9_000)
            .failed("<img src=x onerror=\"document.title='hacked'\">")
            .with("http.response.status_code", Value::IntValue(500))
            .with("note", text("<script>document.title='hacked'</script>")),
        draft(ATTACK, 2, 1, "users", "</span><script>document.title='hacked'</script>", Kind::Internal, 3_000, 4_000)
            .with("\"><script>document.title='hacked'</script>", text("javascript:document.title='hacked'")),
    ])
}
