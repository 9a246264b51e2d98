//! How routes do, summed up.

use serde_json::{Value, json};

use crate::stand::{Stand, line};

const HOUR: i64 = 3600;

#[tokio::test(flavor = "multi_thread")]
async fn known_lines_have_the_summary_that_can_be_calculated() {
    let stand = Stand::open().await;
    let today = stand.count("select extract(epoch from date_trunc('day', now(), 'UTC'))::bigint").await;
    let noon_yesterday = today - 12 * HOUR;
    let at = |second: i64| Some(prost_types::Timestamp { seconds: noon_yesterday + second, nanos: 0 });
    let mut lines = Vec::new();
    // 1 ms to 100 ms; two of a hundred fail. What the client did wrong is no failure of the service.
    for n in 1..=100_u32 {
        let status = match n {
            10 => 500,
            20 => 503,
            30 => 404,
            _ => 200,
        };
        let mut one = line("GET", "/parcels", status);
        (one.at, one.duration_us) = (at(i64::from(n)), u64::from(n) * 1_000);
        lines.push(one);
    }
    for (method, route) in [("POST", "/parcels"), ("GET", "/parcels/{id}")] {
        let mut one = line(method, route, 201);
        (one.at, one.duration_us) = (at(5), 7_250);
        lines.push(one);
    }
    // Just outside.
    for second in [-1, HOUR] {
        let mut one = line("GET", "/parcels", 500);
        one.at = at(second);
        lines.push(one);
    }
    stand.write(&lines, 104).await;

    let time = async |second: i64| {
        let text =
            "select to_char(to_timestamp($1::double precision) at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
        let text: String = sqlx::query_scalar(text)
            .bind((noon_yesterday + second) as f64)
            .fetch_one(&stand.database.pool)
            .await
            .expect("a time");
        text
    };
    let (from, to) = (time(0).await, time(HOUR).await);
    let window = format!("from={from}&to={to}");
    let summary = stand.get(&format!("/access-logs/summary?{window}&service=parcels")).await.expect(200).clone();
    let route = |method, route, requests, rate: f64, error_share: f64, [p50, p95, p99]: [f64; 3]| {
        json!({
            "service": "parcels", "method": method, "route": route, "requests": requests, "requests_per_second": rate,
            "error_share": error_share, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99
        })
    };
    let expected = json!({ "from": from, "to": to, "routes": [
        route("GET", "/parcels", 100, 100.0 / 3600.0, 0.02, [50.5, 95.05, 99.01]),
        route("POST", "/parcels", 1, 1.0 / 3600.0, 0.0, [7.25, 7.25, 7.25]),
        route("GET", "/parcels/{id}", 1, 1.0 / 3600.0, 0.0, [7.25, 7.25, 7.25]),
    ] });
    assert_eq!(rounded(&summary), rounded(&expected));

    let nobody = stand.get(&format!("/access-logs/summary?{window}&service=nobody")).await;
    assert_eq!(nobody.expect(200)["routes"], json!([]));
    // The last hour, of everybody: that is this test's own questions.
    let usual = stand.get("/access-logs/summary?service=access-log").await;
    usual.expect(200)["routes"].as_array().expect("a list");
    stand.close().await;
}

/// Without what binary fractions add at the end.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!((number.as_f64().expect("a number") * 1e9).round() / 1e9),
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), rounded(value))).collect(),
        other => other.clone(),
    }
}
