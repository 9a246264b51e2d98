//! A server that stops finishes what it has begun, and nothing else.

use std::{process::Command, time::Duration};

use tokio::io::AsyncWriteExt as _;
use web::Readiness;

use crate::app::{options, read_one, read_to_end, start, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished() {
    let app = start();
    let request = tokio::spawn(app.http.get(app.url("/wait")).send());
    app.waiting.acquire().await.unwrap().forget();

    let mut idle = app.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_one(&mut idle).await.status, 200);

    app.stop.cancel();
    // The idle connection is closed while the other request is still in hand.
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut idle, &mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert!(!app.running.is_finished());

    app.go.add_permits(1);
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "done");
    app.running.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(app.addr).await.is_err(), "it still listens");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_drain_timeout() {
    let mut options = options();
    options.drain_timeout = Duration::from_secs(1);
    let app = start_with(options, Readiness::new(), |_| {});
    let request = tokio::spawn(app.http.get(app.url("/wait")).send());
    app.waiting.acquire().await.unwrap().forget();
    app.stop.cancel();
    app.running.await.unwrap().unwrap();
    assert!(request.await.unwrap().is_err(), "nobody let it go on");
}

#[tokio::test]
async fn a_half_sent_head_does_not_hold_up_the_stop() {
    let app = start();
    let mut slow = app.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /").await.unwrap();
    assert_eq!(read_one(&mut slow).await.status, 200);
    app.stop.cancel();
    app.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let app = start();
    let mut options = options();
    options.listen = app.addr;
    let error = web::Server::new("second", options).bind().err().unwrap();
    assert!(error.to_string().contains(&app.addr.to_string()), "{error}");
}

#[tokio::test]
async fn connections_made_before_it_runs_are_served_once_it_does() {
    telemetry::init_for_tests();
    let server = web::Server::new("late", options()).bind().unwrap();
    let mut connection = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let running = tokio::spawn(server.run(tokio_util::sync::CancellationToken::new()));
    assert_eq!(read_to_end(&mut connection).await.status, 200);
    running.abort();
}

#[tokio::test]
async fn sigterm_cancels_the_token() {
    let stop = web::stop_signal();
    assert!(!stop.is_cancelled());
    let kill = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().unwrap();
    assert!(kill.success());
    stop.cancelled().await;
}
