//! Looking for lines.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use testkit::Answer;

use crate::stand::{Stand, line};

fn routes(answer: &Answer) -> Vec<&str> {
    let lines = answer.expect(200).as_array().expect("a list");
    lines.iter().map(|line| line["route"].as_str().expect("a route")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_found_by_what_they_say() {
    let stand = Stand::open().await;
    let now = SystemTime::now();
    let lines: Vec<_> = [
        ("GET", "/parcels", 200),
        ("GET", "/parcels/{id}", 404),
        ("POST", "/parcels", 500),
        ("GET", "unmatched", 404),
        ("DELETE", "/parcels/{id}", 503),
    ]
    .into_iter()
    .enumerate()
    .map(|(minutes, (method, route, status))| {
        let mut line = line(method, route, status);
        line.at = Some((now - Duration::from_secs(60 * u64::try_from(minutes).expect("few"))).into());
        line
    })
    .collect();
    stand.write(&lines, 5).await;
    let find = async |filter: &str| stand.get(&format!("/access-logs?service=parcels&{filter}")).await;

    let all = find("").await;
    assert_eq!(routes(&all), ["/parcels", "/parcels/{id}", "/parcels", "unmatched", "/parcels/{id}"], "newest first");
    assert_eq!(all.header("link"), "");
    assert_eq!(routes(&find("status=404").await), ["/parcels/{id}", "unmatched"]);
    assert_eq!(routes(&find("status=5xx").await), ["/parcels", "/parcels/{id}"]);
    assert_eq!(routes(&find("status=3xx").await), [""; 0]);
    assert_eq!(routes(&find("method=GET&status=404").await), ["/parcels/{id}", "unmatched"]);
    assert_eq!(routes(&find("route=unmatched").await), ["unmatched"]);
    assert_eq!(routes(&find("route=/parcels/%7Bid%7D").await).len(), 2);
    let trace = format!("trace_id={}", lines[2].trace_id);
    assert_eq!(routes(&stand.get(&format!("/access-logs?{trace}")).await), ["/parcels"]);
    let at = |answer: &Answer, line: usize| answer.json[line]["at"].as_str().expect("a time").to_owned();
    let (from, to) = (at(&all, 3), at(&all, 1));
    assert_eq!(routes(&find(&format!("from={from}&to={to}")).await), ["/parcels", "unmatched"], "`to` is not within");

    let first = &all.json[0];
    let expected: Value = serde_json::json!({
        "id": lines[0].request_id, "at": first["at"], "service": "parcels", "instance": "parcels-0", "method": "GET",
        "route": "/parcels", "status": 200, "duration_ms": 1.5, "request_bytes": null, "response_bytes": 17,
        "client_network": "192.0.2.0/24", "user_agent": "curl", "trace_id": lines[0].trace_id,
    });
    assert_eq!(*first, expected);
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_that_miss_and_repeat_nothing() {
    let stand = Stand::open().await;
    // Some of them at the same moment: then the id decides.
    let now = SystemTime::now();
    let lines: Vec<_> = (0..25_u64)
        .map(|n| {
            let mut line = line("GET", "/parcels", 200);
            line.at = Some((now - Duration::from_secs(n / 5)).into());
            line
        })
        .collect();
    stand.write(&lines, 25).await;
    let (mut path, mut seen, mut pages) = ("/access-logs?service=parcels&limit=10".to_owned(), Vec::new(), 0);
    loop {
        let page = stand.get(&path).await;
        let ids = page.expect(200).as_array().expect("a list").iter();
        seen.extend(ids.map(|line| (line["at"].as_str().expect("a time").to_owned(), line["id"].to_string())));
        pages += 1;
        // New ones at the top do not move what comes next.
        stand.write(&[line("GET", "/parcels", 200)], 25 + pages).await;
        let link = page.header("link");
        if link.is_empty() {
            break;
        }
        let next = link.strip_prefix('<').and_then(|rest| rest.split_once(">; rel=\"next\""));
        path = next.expect("a link to the next page").0.to_owned();
    }
    assert_eq!((pages, seen.len()), (3, 25));
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 25);
    assert!(seen.is_sorted_by(|one, next| one > next), "{seen:?}");
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_answered_with_what_to_do() {
    let stand = Stand::open().await;
    for (query, says) in [
        ("servce=orders", "servce"),
        ("service=Orders", "service"),
        ("service=", "service"),
        ("method=BREW", "method"),
        ("route=parcels", "route"),
        ("route=/%00", "route"),
        ("status=600", "status"),
        ("status=5XX", "status"),
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("trace_id=4BF92F3577B34DA6A3CE929D0E0E4736", "trace_id"),
        ("limit=0", "limit"),
        ("after=yesterday", "after"),
    ] {
        let answer = stand.get(&format!("/access-logs?{query}")).await;
        let problem = answer.expect_problem(400, "bad-request");
        assert!(problem.to_string().contains(says), "{query}: {problem}");
    }
    for (query, says) in [
        ("from=2026-01-01T00:00:00Z&to=2026-01-09T00:00:00Z", "seven days"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "before"),
        ("to=0000-01-01T00:00:00Z&from=9999-12-31T23:59:59Z", "before"),
        ("limit=3", "limit"),
    ] {
        let answer = stand.get(&format!("/access-logs/summary?{query}")).await;
        let problem = answer.expect_problem(400, "bad-request");
        assert!(problem.to_string().contains(says), "{query}: {problem}");
    }
    stand.close().await;
}
