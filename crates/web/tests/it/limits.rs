//! One client that sends too much, or too slowly, gets an answer and loses its connection. The timeouts here are short so
//! that tests are; nothing asserts how long something takes.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use web::{HttpOptions, Readiness};

use crate::app::{App, exchange, options, read_one, read_to_end, send, start_with};

fn start(change: impl FnOnce(&mut HttpOptions)) -> App {
    let mut options = options();
    change(&mut options);
    start_with(options, Readiness::new(), |_| {})
}

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_head_that_does_not_arrive_in_time_is_408() {
    let app = start(|options| options.head_timeout = SHORT);
    for beginning in ["", "GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let answer = exchange(&mut app.connect().await, beginning.as_bytes()).await;
        assert_eq!(answer.status, 408);
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["type"], "urn:postrider:problem:request-timeout");
    }
}

#[tokio::test]
async fn a_later_head_on_the_same_connection_has_the_same_limit() {
    let app = start(|options| (options.head_timeout, options.keep_alive) = (SHORT, Duration::from_secs(1)));
    let mut connection = app.connect().await;
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_one(&mut connection).await.status, 200);
    let answer = exchange(&mut connection, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["type"], "urn:postrider:problem:request-timeout");
}

#[tokio::test]
async fn the_limit_for_heads_does_not_hurry_an_answer() {
    let app = start(|options| (options.head_timeout, options.keep_alive) = (SHORT, SHORT));
    let mut connection = app.connect().await;
    connection.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    app.waiting.acquire().await.unwrap().forget();
    // An idle connection that was opened later is given up first: by then the watch has passed the waiting one over.
    assert_eq!(exchange(&mut app.connect().await, b"").await.status, 408);
    assert_eq!(exchange(&mut app.connect().await, b"").await.status, 408);
    app.go.add_permits(1);
    assert_eq!(read_one(&mut connection).await.text, "done");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_connection() {
    let app = start(|options| options.unread_timeout = SHORT);
    let mut connection = app.connect().await;
    // It asks on and on and takes nothing, so that all buffers on the way are full at some time.
    let refused = async {
        while connection.write_all(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {}
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("the connection is closed");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_503_and_its_place_is_free() {
    let app = start(|options| {
        (options.request_timeout, options.route_places, options.route_waiting) = (SHORT, Some(1), 0);
    });
    let late = app.get("/wait").await;
    let problem = late.problem(503, "timeout");
    assert!(problem["detail"].as_str().unwrap().contains("Idempotency-Key"), "{problem}");
    late.header("retry-after");
    app.go.add_permits(1);
    assert_eq!(app.get("/wait").await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_408_for_every_kind_of_extractor() {
    let app = start(|options| options.body_timeout = SHORT);
    for path in ["/things", "/bytes", "/text"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{{\"name\""
        );
        let answer = exchange(&mut app.connect().await, head.as_bytes()).await;
        answer.problem(408, "request-timeout");
    }
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_413_before_it_is_sent() {
    let app = start(|options| options.max_body_bytes = 100);
    let head = "POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 101\r\n\r\n";
    let mut connection = app.connect().await;
    connection.write_all(head.as_bytes()).await.unwrap();
    let problem = read_one(&mut connection).await.problem(413, "payload-too-large");
    assert_eq!(problem["detail"], "Send at most 100 bytes.");
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_413_for_every_kind_of_extractor() {
    let app = start(|options| options.max_body_bytes = 100);
    for path in ["/things", "/bytes", "/text"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let chunk = format!("40\r\n{}\r\n", " ".repeat(64));
        let mut connection = app.connect().await;
        connection.write_all(format!("{head}{chunk}{chunk}").as_bytes()).await.unwrap();
        read_one(&mut connection).await.problem(413, "payload-too-large");
    }
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(100 - 11));
    assert_eq!(app.post_json("/things", body).await.status, 200, "exactly the limit");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let app = start(|options| options.max_head_bytes = 1_024);
    let get = |bytes: usize| app.http.get(app.url("/livez")).header("x-large", "x".repeat(bytes));
    assert_eq!(send(get(500)).await.status, 200);
    send(get(1_025)).await.problem(431, "head-too-large");
    app.get(&format!("/{}", "x".repeat(1_025))).await.problem(431, "head-too-large");
}

#[tokio::test]
async fn a_head_beyond_all_measure_ends_the_connection() {
    let app = start(|_| {});
    let head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-large: {}", "x".repeat(200_000));
    let mut connection = app.connect().await;
    // The server may have closed before all of it is sent.
    let _closed = connection.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _closed = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(app.get("/livez").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_an_answer() {
    let app = start(|options| options.keep_alive = SHORT);
    let mut connection = app.connect().await;
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text.contains("HTTP/1.1"), "{}", answer.text);
}

#[tokio::test]
async fn only_trusted_proxies_say_where_a_request_comes_from() {
    let ask = async |trusted: usize| {
        let app = start(|options| options.trusted_proxies = trusted);
        send(app.http.get(app.url("/address")).header("x-forwarded-for", "6.6.6.6, 192.0.2.7")).await.text
    };
    assert_eq!(ask(0).await, "127.0.0.1");
    assert_eq!(ask(1).await, "192.0.2.7");
}
