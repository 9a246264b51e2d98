//! The latest orders, as their traces tell of them. Asked for with Jaeger's API, so that it is the same with Jaeger itself.

use serde_json::Value;

use super::json;

const LATEST: &str = "/api/traces?service=orders&operation=POST%20%2Forders&limit=8&lookback=2d";

/// What became of an order, as far as its trace goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Confirmed,
    Cancelled,
    /// The request was answered with this status.
    Refused(u64),
    UnderWay,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) trace: String,
    pub(super) began_us: u64,
    pub(super) duration_us: u64,
    pub(super) spans: usize,
    pub(super) errors: usize,
    pub(super) outcome: Outcome,
}

/// Newest first; `Err` says why they cannot be told.
pub(super) async fn latest(port: u16) -> Result<Vec<Order>, String> {
    let answer = json(port, LATEST).await?;
    let mut orders: Vec<Order> = answer["data"].as_array().into_iter().flatten().filter_map(order).collect();
    orders.sort_by_key(|order| std::cmp::Reverse(order.began_us));
    Ok(orders)
}

fn order(trace: &Value) -> Option<Order> {
    let spans = trace["spans"].as_array()?;
    let begin = |span: &Value| span["startTime"].as_u64().unwrap_or_default();
    let end = |span: &Value| begin(span) + span["duration"].as_u64().unwrap_or_default();
    let began_us = spans.iter().map(begin).min()?;
    let made =
        |event: &str| spans.iter().any(|span| span["operationName"] == format!("create orders.v1.{event}").as_str());
    let request = spans.iter().find(|span| span["operationName"] == "POST /orders")?;
    let status = tag(request, "http.response.status_code").and_then(Value::as_u64).unwrap_or_default();
    Some(Order {
        trace: trace["traceID"].as_str()?.to_owned(),
        began_us,
        duration_us: spans.iter().map(end).max()?.saturating_sub(began_us),
        spans: spans.len(),
        errors: spans.iter().filter(|span| tag(span, "error") == Some(&Value::Bool(true))).count(),
        outcome: match status {
            _ if made("OrderCancelled") => Outcome::Cancelled,
            _ if made("OrderConfirmed") => Outcome::Confirmed,
            400.. => Outcome::Refused(status),
            _ => Outcome::UnderWay,
        },
    })
}

fn tag<'a>(span: &'a Value, name: &str) -> Option<&'a Value> {
    let mut tags = span["tags"].as_array()?.iter();
    tags.find(|tag| tag["key"] == name).map(|tag| &tag["value"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_became_of_an_order_is_told_by_its_events() {
        let span = |name: &str, start: u64, duration: u64, tags: Value| json!({ "operationName": name, "startTime": start, "duration": duration, "tags": tags });
        let status = |status: u64| json!([{ "key": "http.response.status_code", "value": status }]);
        let request = |code: u64| span("POST /orders", 10, 5, status(code));
        let failed = span("provider charge", 20, 4, json!([{ "key": "error", "value": true }]));
        let found = |spans: Value| order(&json!({ "traceID": "ab", "spans": spans })).unwrap();
        let confirmed = found(json!([request(202), failed, span("create orders.v1.OrderConfirmed", 30, 3, json!([]))]));
        assert_eq!((confirmed.outcome, confirmed.errors), (Outcome::Confirmed, 1));
        assert_eq!((confirmed.began_us, confirmed.duration_us, confirmed.spans), (10, 23, 3));
        let cancelled = found(json!([request(202), span("create orders.v1.OrderCancelled", 30, 3, json!([]))]));
        assert_eq!(cancelled.outcome, Outcome::Cancelled);
        assert_eq!(found(json!([request(422)])).outcome, Outcome::Refused(422));
        assert_eq!(found(json!([request(202)])).outcome, Outcome::UnderWay);
    }
}
