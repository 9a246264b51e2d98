//! What others are told of a request that is over.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    web::{Bytes, get, post, resource},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use web::{Finished, Server};

use crate::app::{options, send};

#[tokio::test]
async fn a_finished_request_is_told_of_without_anything_that_identifies_a_person() {
    telemetry::init_for_tests();
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let (told, mut told_of) = mpsc::unbounded_channel();
    let server = Server::new("things", options())
        .observe(move |finished| told.send(finished).unwrap())
        .routes(|config| {
            config
                .service(resource("/things/{id}").route(get().to(|| async { HttpResponse::Ok().body("a thing") })))
                .service(resource("/things").route(post().to(|_: Bytes| async { HttpResponse::Created().finish() })));
        })
        .bind()
        .unwrap();
    let (base, stop) = (format!("http://{}", server.addr()), CancellationToken::new());
    let running = tokio::spawn(server.run(stop.clone()));
    let http = reqwest::Client::new();
    for operations in ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs/"] {
        send(http.get(format!("{base}{operations}"))).await;
    }
    let shown =
        send(http.get(format!("{base}/things/lovelace?of=lovelace")).header("user-agent", "curl/8.5 lovelace")).await;
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(20), told_of.recv()).await.expect("it is told of").unwrap();
    let first: Finished = next().await;
    // Health, metrics and documentation came before it and are not told of.
    assert_eq!((first.method, first.route.as_str(), first.status), ("GET", "/things/{id}", 200));
    assert_eq!((first.request_bytes, first.response_bytes), (None, 7));
    assert_eq!((first.client_network.as_deref(), first.user_agent), (Some("127.0.0.0/24"), Some("curl")));
    assert_eq!(first.trace_id, Some(shown.trace_id()));
    assert!(first.duration > Duration::ZERO);
    assert!(!format!("{first:?}").contains("lovelace"), "{first:?}");

    send(http.post(format!("{base}/things")).body("12345")).await;
    let second = next().await;
    assert_eq!((second.method, second.route.as_str(), second.status), ("POST", "/things", 201));
    assert_eq!((second.request_bytes, second.response_bytes, second.user_agent), (Some(5), 0, None));

    send(http.get(format!("{base}/ada"))).await;
    let unknown = next().await;
    assert_eq!((unknown.route.as_str(), unknown.status), ("unmatched", 404));
    assert!(unknown.response_bytes > 0);
    stop.cancel();
    running.await.unwrap().unwrap();
}
