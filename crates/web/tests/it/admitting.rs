//! Who is let in, and what becomes of the others. The places are counted and the line is short here; nothing asserts how long something takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{
    HttpResponse,
    web::{get, post, resource},
};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;
use web::{HttpOptions, Readiness, Server};

use crate::app::{Answer, App, options, read_one, send, start_with};

/// Nobody waits as long: who waits gets a place, or the test hangs.
const LONG: Duration = Duration::from_secs(600);

/// A server with so many places for each route, and a line.
fn start(places: u16, line: u16, change: impl FnOnce(&mut HttpOptions)) -> App {
    let mut options = options();
    (options.route_places, options.route_waiting, options.route_wait) = (Some(places), line, LONG);
    change(&mut options);
    start_with(options, Readiness::new(), |_| {})
}

impl App {
    /// A request that is worked on until the test lets it go.
    async fn occupy(&self) -> tokio::task::JoinHandle<Answer> {
        let request = tokio::spawn(send(self.http.get(self.url("/wait"))));
        self.waiting.acquire().await.unwrap().forget();
        request
    }
}

/// Switch: `admission`.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_route_can_take_are_told_to_come_back() {
    let app = start(2, 0, |_| {});
    let (first, second) = (app.occupy().await, app.occupy().await);
    let refused = tokio::time::timeout(Duration::from_secs(20), app.get("/wait")).await.expect("it is worked on");
    let problem = refused.problem(503, "overloaded");
    assert!(problem["detail"].as_str().unwrap().contains("Retry-After"), "{problem}");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3).contains(&seconds), "{seconds}");
    // The same route, written otherwise: actix decodes a path before it looks for the route.
    let otherwise = tokio::time::timeout(Duration::from_secs(20), app.get("/%77ait")).await;
    otherwise.expect("it is worked on").problem(503, "overloaded");
    assert_eq!(app.get("/things/00000000-0000-0000-0000-000000000000").await.status, 200, "another route has its own");
    app.go.add_permits(2);
    assert_eq!((first.await.unwrap().status, second.await.unwrap().status), (200, 200));
    app.go.add_permits(1);
    assert_eq!(app.get("/wait").await.status, 200, "there is room again");
}

/// Switch: `waiting-line`.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_the_place_that_becomes_free() {
    let app = start(1, 1, |_| {});
    let first = app.occupy().await;
    // Of two that come now, one may wait and the other may not: whichever came later is answered first.
    let two = [(); 2].map(|()| Box::pin(send(app.http.get(app.url("/wait")))));
    let (refused, _, mut waiting) = futures_util::future::select_all(two).await;
    refused.problem(503, "overloaded");
    app.go.add_permits(2);
    assert_eq!(first.await.unwrap().text, "done");
    assert_eq!(waiting.remove(0).await.text, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told_to_come_back() {
    let app = start(1, 1, |options| options.route_wait = Duration::from_millis(1));
    let first = app.occupy().await;
    let refused = app.get("/wait").await;
    refused.problem(503, "overloaded");
    refused.header("retry-after");
    app.go.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
}

/// Switch: `health-unlimited`.
#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_answered_however_full_it_is() {
    // Each probe is slow, and all of them come at once: with places, one would be answered and the others refused.
    let (probed, go) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (reached, wait) = (Arc::clone(&probed), Arc::clone(&go));
    let readiness = Readiness::new().required("database", move || {
        let (reached, wait) = (Arc::clone(&reached), Arc::clone(&wait));
        async move {
            reached.add_permits(1);
            wait.acquire().await.map_err(|error| error.to_string())?.forget();
            Ok(())
        }
    });
    let mut options = options();
    (options.route_places, options.route_waiting) = (Some(1), 0);
    let app = start_with(options, readiness, |_| {});
    let first = app.occupy().await;
    app.get("/wait").await.problem(503, "overloaded");
    let probes = [(); 2].map(|()| tokio::spawn(send(app.http.get(app.url("/readyz")))));
    let both = tokio::time::timeout(Duration::from_secs(20), probed.acquire_many(2)).await;
    both.expect("one of two probes is refused").unwrap().forget();
    for path in ["/livez", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    go.add_permits(2);
    for probe in probes {
        assert_eq!(probe.await.unwrap().status, 200);
    }
    app.go.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
}

/// Switch: `places-back`.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_place() {
    let app = start(1, 1, |_| {});
    let mut gone = app.connect().await;
    gone.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    app.waiting.acquire().await.unwrap().forget();
    // A reset: whoever has only said everything may still want the answer, and is worked for to the end.
    gone.set_zero_linger().unwrap();
    drop(gone);
    // The one who comes next reaches the handler, though nobody let the first one go.
    let next = tokio::spawn(send(app.http.get(app.url("/wait"))));
    let reached = tokio::time::timeout(Duration::from_secs(20), app.waiting.acquire()).await;
    reached.expect("the place is still taken").unwrap().forget();
    app.go.add_permits(1);
    assert_eq!(next.await.unwrap().status, 200);
}

/// Switch: `places-back`.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_frees_its_place() {
    let app = start(1, 0, |_| {});
    for _ in 0..3 {
        app.get("/panic").await.problem(500, "internal");
    }
}

/// A client that sends its body byte by byte has no place meanwhile, and one that is refused can use its connection again.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_there_yet_takes_no_place() {
    let app = start(1, 0, |_| {});
    let mut slow = app.connect().await;
    let head =
        b"POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"name\"";
    slow.write_all(head).await.unwrap();
    for _ in 0..3 {
        assert_eq!(app.post_json("/things", r#"{"name":"a"}"#).await.status, 200);
    }
    slow.write_all(b":\"b\"}").await.unwrap();
    assert_eq!(read_one(&mut slow).await.json()["name"], "b");

    let first = app.occupy().await;
    let mut refused = app.connect().await;
    for _ in 0..2 {
        refused.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        read_one(&mut refused).await.problem(503, "overloaded");
    }
    app.go.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
}

/// A server of which changes are held while `held` is true, but for logins.
fn start_holding(
    held: &Arc<AtomicBool>,
    except: &'static [&'static str],
) -> Result<(String, reqwest::Client), std::io::Error> {
    telemetry::init_for_tests();
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let asked = Arc::clone(held);
    let server = Server::new("holding", options())
        .openapi(<Document as utoipa::OpenApi>::openapi())
        .hold_changes(move || asked.load(Ordering::Relaxed), except)
        .routes(|config| {
            let ok = || async { HttpResponse::Ok().finish() };
            config.service(resource("/holding").route(get().to(ok)).route(post().to(ok)));
            config.service(resource("/holding/sessions").route(post().to(ok)));
        })
        .bind()?;
    let url = format!("http://{}", server.addr());
    tokio::spawn(server.run(CancellationToken::new()));
    Ok((url, reqwest::Client::new()))
}

#[utoipa::path(post, path = "/holding/sessions", responses((status = 200)))]
#[expect(dead_code, reason = "describes a route")]
fn log_in() {}

#[derive(utoipa::OpenApi)]
#[openapi(info(title = "holding", version = "1"), paths(log_in))]
struct Document;

/// Switch: `backlog`.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_held_while_events_do_not_leave_and_taken_again_afterwards() {
    let held = Arc::new(AtomicBool::new(false));
    let (url, http) = start_holding(&held, &["POST /holding/sessions"]).unwrap();
    let change = async || send(http.post(format!("{url}/holding"))).await;
    assert_eq!(change().await.status, 200);
    held.store(true, Ordering::Relaxed);
    let refused = change().await;
    refused.problem(503, "backlog");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 30);
    send(http.post(format!("{url}/%68olding"))).await.problem(503, "backlog");
    assert_eq!(send(http.get(format!("{url}/holding"))).await.status, 200, "nothing is announced by looking");
    assert_eq!(send(http.post(format!("{url}/holding/sessions"))).await.status, 200, "nor by what is excepted");
    held.store(false, Ordering::Relaxed);
    assert_eq!(change().await.status, 200);
}

#[tokio::test]
async fn an_exception_that_is_no_route_stops_the_start() {
    let error = start_holding(&Arc::default(), &["POST /session"]).err().unwrap();
    assert!(error.to_string().contains("POST /session announces nothing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_and_who_is_not_is_counted() {
    let app = start(1, 0, |_| {});
    let first = app.occupy().await;
    app.get("/wait").await.problem(503, "overloaded");
    app.go.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
    let metrics = app.get("/metrics").await.text;
    // Other tests of the process count on the same series.
    let value = |series: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series}: {metrics}")).trim().parse().unwrap()
    };
    assert!(value(r#"http_server_admitted_total{method="GET",route="/wait"}"#) >= 1.0);
    assert!(value(r#"http_server_refused_total{method="GET",route="/wait",reason="full"}"#) >= 1.0);
    assert!(value(r#"http_server_refused_total{method="POST",route="/things",reason="backlog"}"#) >= 0.0);
}

#[tokio::test]
async fn every_documented_route_says_that_it_can_be_refused() {
    let app = start(1, 0, |_| {});
    let document = app.get("/openapi.json").await.json();
    let refused = &document["paths"]["/things"]["post"]["responses"]["503"];
    assert!(refused["headers"]["Retry-After"].is_object(), "{refused}");
    assert_eq!(refused["content"]["application/problem+json"]["example"]["type"], "urn:postrider:problem:overloaded");
    assert!(document["paths"]["/livez"]["get"]["responses"]["503"].is_null());
}
