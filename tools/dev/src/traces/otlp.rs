//! Receives spans: the trace service of OTLP over gRPC. Names and values are taken as they are sent.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1,
    trace::v1 as trace,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response,
    transport::{Server, server::TcpIncoming},
};

use super::store::{Event, Kind, Resource, Span, Status, Store, Value};

const MESSAGE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Receives for ever; dropping the future ends it.
pub(super) async fn serve(listener: TcpListener, store: Arc<Store>) {
    let service = TraceServiceServer::new(Receiver { store }).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // It only ends with an error when the listener is gone, which lives as long as it.
    let _ = Server::builder().serve_with_incoming(service, incoming).await;
}

struct Receiver {
    store: Arc<Store>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut rejected = 0;
        for group in request.into_inner().resource_spans {
            let resource = Arc::new(resource(group.resource));
            for scope in group.scope_spans {
                let name = scope.scope.map(|scope| scope.name).unwrap_or_default();
                for span in scope.spans {
                    let bytes = span.encoded_len();
                    match convert(span, &name, &resource) {
                        Some(span) => self.store.add(span, bytes),
                        None => rejected += 1,
                    }
                }
            }
        }
        let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "trace ids have 16 bytes and span ids 8, not all zero".to_owned(),
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

fn resource(resource: Option<v1::Resource>) -> Resource {
    let attributes = attributes(resource.map(|resource| resource.attributes).unwrap_or_default());
    let service = attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.text());
    Resource { service: service.unwrap_or_else(|| "unknown_service".to_owned()), attributes }
}

fn convert(span: trace::Span, scope: &str, resource: &Arc<Resource>) -> Option<Span> {
    let kind = match span.kind() {
        trace::span::SpanKind::Server => Kind::Server,
        trace::span::SpanKind::Client => Kind::Client,
        trace::span::SpanKind::Producer => Kind::Producer,
        trace::span::SpanKind::Consumer => Kind::Consumer,
        trace::span::SpanKind::Internal | trace::span::SpanKind::Unspecified => Kind::Internal,
    };
    let status = match span.status.as_ref().map(|status| (status.code(), status.message.clone())) {
        Some((trace::status::StatusCode::Ok, _)) => Status::Ok,
        Some((trace::status::StatusCode::Error, message)) => Status::Error(message),
        Some((trace::status::StatusCode::Unset, _)) | None => Status::Unset,
    };
    let event = |event: trace::span::Event| Event {
        name: event.name,
        time_ns: event.time_unix_nano,
        attributes: attributes(event.attributes),
    };
    Some(Span {
        trace_id: id(&span.trace_id, 16)?,
        span_id: id(&span.span_id, 8)?,
        parent_id: id(&span.parent_span_id, 8),
        name: span.name,
        kind,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
        links: span.links.iter().filter_map(|link| Some((id(&link.trace_id, 16)?, id(&link.span_id, 8)?))).collect(),
        status,
        scope: scope.to_owned(),
        trace_state: span.trace_state,
        resource: Arc::clone(resource),
    })
}

/// An id as text; `None` for one that is missing, of the wrong length, or all zero, which means "none".
fn id(bytes: &[u8], length: usize) -> Option<String> {
    let valid = bytes.len() == length && bytes.iter().any(|byte| *byte != 0);
    valid.then(|| hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: Vec<KeyValue>) -> Vec<(String, Value)> {
    attributes.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

fn value(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        None => Value::Text(String::new()),
        Some(any_value::Value::StringValue(text)) => Value::Text(text),
        Some(any_value::Value::BoolValue(value)) => Value::Bool(value),
        Some(any_value::Value::IntValue(value)) => Value::Int(value),
        Some(any_value::Value::DoubleValue(value)) => Value::Float(value),
        Some(other) => Value::Json(json(other)),
    }
}

fn json(value: any_value::Value) -> serde_json::Value {
    let inner = |value: AnyValue| value.value.map_or(serde_json::Value::Null, json);
    match value {
        any_value::Value::StringValue(text) => text.into(),
        any_value::Value::BoolValue(value) => value.into(),
        any_value::Value::IntValue(value) => value.into(),
        any_value::Value::DoubleValue(value) => value.into(),
        any_value::Value::BytesValue(bytes) => hex(&bytes).into(),
        any_value::Value::ArrayValue(list) => list.values.into_iter().map(inner).collect(),
        any_value::Value::KvlistValue(map) => {
            map.values.into_iter().map(|pair| (pair.key, pair.value.map_or(serde_json::Value::Null, inner))).collect()
        }
        // Newer versions of the protocol add kinds of values.
        _ => serde_json::Value::Null,
    }
}
