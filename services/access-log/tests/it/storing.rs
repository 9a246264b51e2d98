//! From a request to its line, and what becomes of lines that come twice, late, or wrong.

use std::time::{Duration, SystemTime};

use testkit::eventually;
use web::testing::As;

use crate::stand::{Stand, line};

const LINES: &str = "select count(*) from access_log where service = 'parcels'";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_a_line_without_its_query_and_without_a_whole_address() {
    let stand = Stand::open_with(&["--trusted-proxies=1"]).await;
    let token = stand.issuer.token(As::Operator);
    let headers = [("x-forwarded-for", "198.51.100.77"), ("user-agent", "curl/8.5.0 (of Ada)")];
    let asked = stand.ask("/access-logs/summary?service=secret-shop", Some(&token), &headers).await;
    asked.expect(200);
    let missing = stand.ask("/people/lovelace", None, &headers).await;
    missing.expect(404);
    let trace = |answer: &testkit::Answer| answer.header("traceparent").split('-').nth(1).expect("a trace").to_owned();

    for (answer, route, status) in [(&asked, "/access-logs/summary", 200), (&missing, "unmatched", 404)] {
        let path = format!("/access-logs?service=access-log&trace_id={}", trace(answer));
        eventually("the line is there", async || stand.get(&path).await.json[0].is_object()).await;
        let lines = stand.get(&path).await.json;
        let line = &lines[0];
        assert_eq!(
            (lines.as_array().map(Vec::len), &line["route"], &line["status"]),
            (Some(1), &route.into(), &status.into())
        );
        assert_eq!((&line["method"], &line["user_agent"]), (&"GET".into(), &"curl".into()));
        assert_eq!(line["client_network"], "198.51.100.0/24");
        assert_eq!(line["response_bytes"], answer.text.len());
        assert!(line["duration_ms"].as_f64() > Some(0.0), "{line}");
    }
    let everything: Vec<String> = sqlx::query_scalar("select access_log::text from access_log")
        .fetch_all(&stand.database.pool)
        .await
        .expect("the rows");
    let everything = everything.join("\n");
    for personal in ["secret-shop", "198.51.100.77", "127.0.0.1", "lovelace", "Ada", &token] {
        assert!(!everything.contains(personal), "{personal}: {everything}");
    }
    // Probes and documentation are no use of the service.
    for route in ["livez", "readyz", "metrics", "docs", "openapi"] {
        assert!(!everything.contains(route), "{route}: {everything}");
    }
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_delivered_again_is_stored_once() {
    let stand = Stand::open().await;
    let repeated = "access_log_lines_total{outcome=\"repeated\"}";
    let before = stand.metric(repeated).await;
    let lines: Vec<_> = (0..50).map(|_| line("GET", "/parcels", 200)).collect();
    // In the same batch, and in a later one together with new ones.
    let twice = [lines.clone(), lines.clone()].concat();
    stand.write(&twice, 50).await;
    let new: Vec<_> = (0..10).map(|_| line("GET", "/parcels", 200)).collect();
    stand.write(&[lines, new].concat(), 60).await;
    eventually("all of them were looked at", async || stand.metric(repeated).await - before >= 100.0).await;
    assert_eq!(stand.count(LINES).await, 60);
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_day_that_is_gone_is_refused_visibly_and_costs_no_other_its_place() {
    let stand = Stand::open().await;
    let refused = "access_log_lines_total{outcome=\"refused\"}";
    let unusable = "access_log_lines_total{outcome=\"unusable\"}";
    let before = (stand.metric(refused).await, stand.metric(unusable).await);
    let day = Duration::from_secs(24 * 3600);
    let (mut late, mut early, mut timeless, mut strange) = (
        line("GET", "/late", 200),
        line("GET", "/early", 200),
        line("GET", "/timeless", 200),
        line("GET", "/str\tan\\ge\0", 200),
    );
    late.at = Some((SystemTime::now() - 40 * day).into());
    early.at = Some((SystemTime::now() + 30 * day).into());
    timeless.at = None;
    strange.client_network = "192.0.2.77/32".into();
    strange.duration_us = u64::MAX;
    let impossible = line("GET", "/impossible", 700);
    let good = line("GET", "/good", 200);
    stand.write(&[late, early, timeless, impossible, strange, good], 2).await;
    let counted = async || (stand.metric(refused).await - before.0, stand.metric(unusable).await - before.1);
    eventually("they are counted", async || counted().await >= (2.0, 2.0)).await;
    assert_eq!(stand.count(LINES).await, 2);
    // What could have broken its row is as it was, but for what no text can hold, and the address is cut off.
    let strange = r"select count(*) from access_log where route = E'/str\tan\\ge' and client_network = '192.0.2.0/24'";
    assert_eq!(stand.count(strange).await, 1);
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_again_when_the_broker_or_the_database_was_away() {
    let stand = Stand::open().await;
    stand.write(&[line("GET", "/before", 200)], 1).await;
    stand.cut_broker_connections().await;
    eventually("lines arrive again", async || {
        // One that goes into a connection that has just been lost is lost with it.
        stand.logs.publish(&line("GET", "/after-the-broker", 200));
        stand.count("select count(*) from access_log where route = '/after-the-broker'").await > 0
    })
    .await;

    stand.database.set_available(false).await;
    stand.logs.publish(&line("GET", "/after-the-database", 200));
    eventually("it does not take them", async || stand.client.get("/readyz", None).await.status == 503).await;
    stand.database.set_available(true).await;
    eventually("what came meanwhile is stored", async || {
        stand.count("select count(*) from access_log where route = '/after-the-database'").await == 1
    })
    .await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_lines_and_one_goes_on_alone() {
    let mut stand = Stand::open().await;
    let first = stand.stop_token();
    stand.start().await;
    let lines: Vec<_> = (0..200).map(|_| line("GET", "/parcels", 200)).collect();
    stand.write(&lines, 200).await;
    stand.stop_service(&first).await;
    stand.write(&[line("GET", "/parcels", 200)], 201).await;
    assert_eq!(stand.count(LINES).await, 201);
    stand.close().await;
}
