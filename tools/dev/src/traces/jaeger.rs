//! Traces in the JSON of Jaeger's query API.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::store::{Event, Kind, Resource, Span, Status, Value};

/// One trace.
pub(super) fn trace(spans: &[Arc<Span>]) -> Json {
    let mut resources: Vec<&Resource> = Vec::new();
    let mut written = Vec::with_capacity(spans.len());
    for span in spans {
        let known = resources.iter().position(|known| **known == *span.resource);
        let index = known.unwrap_or(resources.len());
        if known.is_none() {
            resources.push(&span.resource);
        }
        written.push(self::span(span, &format!("p{}", index + 1)));
    }
    let processes: serde_json::Map<String, Json> = resources
        .iter()
        .enumerate()
        .map(|(index, resource)| {
            let named = resource.attributes.iter().filter(|(name, _)| name != "service.name");
            let tags: Vec<Json> = named.map(|(name, value)| tag(name, value)).collect();
            (format!("p{}", index + 1), json!({ "serviceName": resource.service, "tags": tags }))
        })
        .collect();
    json!({
        "traceID": spans.first().map(|span| span.trace_id.as_str()).unwrap_or_default(),
        "spans": written, "processes": processes, "warnings": null,
    })
}

/// The envelope around every list.
pub(super) fn list(data: Vec<Json>) -> Json {
    json!({ "data": data, "total": data.len(), "limit": 0, "offset": 0, "errors": null })
}

fn span(span: &Span, process: &str) -> Json {
    let reference = |kind: &str, trace: &str, id: &str| json!({ "refType": kind, "traceID": trace, "spanID": id });
    let parent = span.parent_id.iter().map(|parent| reference("CHILD_OF", &span.trace_id, parent));
    let links = span.links.iter().map(|(trace, id)| reference("FOLLOWS_FROM", trace, id));
    json!({
        "traceID": span.trace_id, "spanID": span.span_id, "flags": 1, "operationName": span.name,
        "references": parent.chain(links).collect::<Vec<_>>(),
        "startTime": span.start_ns / 1_000, "duration": span.duration_ns() / 1_000,
        "tags": tags(span), "logs": span.events.iter().map(log).collect::<Vec<_>>(),
        "processID": process, "warnings": null,
    })
}

/// The attributes, and what OpenTelemetry has fields for and Jaeger has tags.
fn tags(span: &Span) -> Vec<Json> {
    let mut tags: Vec<Json> = span.attributes.iter().map(|(name, value)| tag(name, value)).collect();
    let mut add = |name: &str, value: Value| tags.push(tag(name, &value));
    if let Some(kind) = kind(span.kind) {
        add("span.kind", Value::Text(kind.to_owned()));
    }
    match &span.status {
        Status::Unset => {}
        Status::Ok => add("otel.status_code", Value::Text("OK".to_owned())),
        Status::Error(reason) => {
            add("otel.status_code", Value::Text("ERROR".to_owned()));
            add("error", Value::Bool(true));
            if !reason.is_empty() {
                add("otel.status_description", Value::Text(reason.clone()));
            }
        }
    }
    if !span.scope.is_empty() {
        add("otel.scope.name", Value::Text(span.scope.clone()));
    }
    if !span.trace_state.is_empty() {
        add("w3c.tracestate", Value::Text(span.trace_state.clone()));
    }
    tags
}

/// As Jaeger calls it; what happens inside a process has none.
pub(super) fn kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Internal => None,
        Kind::Server => Some("server"),
        Kind::Client => Some("client"),
        Kind::Producer => Some("producer"),
        Kind::Consumer => Some("consumer"),
    }
}

fn tag(name: &str, value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({ "key": name, "type": "string", "value": text }),
        Value::Bool(value) => json!({ "key": name, "type": "bool", "value": value }),
        Value::Int(value) => json!({ "key": name, "type": "int64", "value": value }),
        Value::Float(value) => json!({ "key": name, "type": "float64", "value": value }),
        Value::Json(value) => json!({ "key": name, "type": "string", "value": value.to_string() }),
    }
}

fn log(event: &Event) -> Json {
    let name = tag("event", &Value::Text(event.name.clone()));
    let fields: Vec<Json> =
        [name].into_iter().chain(event.attributes.iter().map(|(name, value)| tag(name, value))).collect();
    json!({ "timestamp": event.time_ns / 1_000, "fields": fields })
}
