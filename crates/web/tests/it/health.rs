//! `/livez`, `/readyz` and `/metrics`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use web::Readiness;

use crate::app::{options, start, start_with};

#[tokio::test]
async fn readiness_follows_its_required_checks_and_says_why() {
    let up = Arc::new(AtomicBool::new(true));
    let database = Arc::clone(&up);
    let readiness = Readiness::new().required("database", move || {
        let up = database.load(Ordering::Relaxed);
        async move { if up { Ok(()) } else { Err("connection refused".to_owned()) } }
    });
    let app = start_with(options(), readiness, |_| {});

    assert_eq!(app.get("/readyz").await.status, 200);
    up.store(false, Ordering::Relaxed);
    let answer = app.get("/readyz").await;
    assert_eq!(answer.status, 503);
    let check = &answer.json()["checks"][0];
    assert_eq!((&check["name"], &check["reason"]), (&"database".into(), &"connection refused".into()));
    assert_eq!(app.get("/livez").await.status, 200, "it still lives");
    up.store(true, Ordering::Relaxed);
    assert_eq!(app.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn what_is_only_reported_is_shown_and_changes_nothing() {
    let readiness = Readiness::new().required("database", || async { Ok(()) }).reported("messaging", || async {
        vec![("relay".to_owned(), Ok(())), ("broker".to_owned(), Err("not connected".to_owned()))]
    });
    let app = start_with(options(), readiness, |_| {});
    let answer = app.get("/readyz").await;
    assert_eq!(answer.status, 200);
    let report = answer.json();
    assert_eq!(report["ready"], true);
    let broker = &report["checks"][2];
    assert_eq!(broker["name"], "messaging.broker");
    assert_eq!((&broker["required"], &broker["ok"]), (&false.into(), &false.into()));
    assert_eq!(broker["reason"], "not connected");
}

#[tokio::test]
async fn requests_are_counted_under_bounded_labels() {
    let app = start();
    app.get_and_close("/things/7", "").await;
    app.get_and_close("/never/heard/of", "").await;
    let metrics = app.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let counted =
        |labels: &str| metrics.text.contains(&format!("http_server_request_duration_seconds_count{{{labels}}}"));
    assert!(counted(r#"method="GET",route="/things/{id}",status="400""#), "{}", metrics.text);
    assert!(counted(r#"method="GET",route="unmatched",status="404""#), "{}", metrics.text);
    assert!(!metrics.text.contains("/never/heard/of"));
    let active = metrics.text.lines().find_map(|line| line.strip_prefix("http_server_active_requests "));
    let active: f64 = active.unwrap().parse().unwrap();
    assert!(active >= 1.0, "at least this request itself: {active}");
}
