//! Every path has an answer, whether the service knows it or not.

use std::convert::Infallible;

use actix_web::{
    HttpResponse,
    web::{Bytes, get, resource},
};
use futures_util::stream::pending;
use tokio::io::AsyncWriteExt as _;
use web::Readiness;

use crate::app::{options, read_head, read_one, send, start, start_with};

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let app = start();
    app.get("/nowhere").await.problem(404, "not-found");
    app.get("/things/7/parts").await.problem(404, "not-found");
    app.get("/docs/nowhere.js").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_names_the_right_ones() {
    let app = start();
    let cases = [
        ("/things", "POST"),
        ("/things/7", "GET, HEAD, DELETE"),
        ("/macro", "PUT"),
        ("/%6Dacro", "PUT"),
        ("/livez", "GET, HEAD"),
        ("/docs/", "GET, HEAD"),
    ];
    for (path, allow) in cases {
        let answer = send(app.http.patch(app.url(path))).await;
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let app = start();
    let answer = send(app.http.head(app.url("/livez"))).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), app.get("/livez").await.text.len().to_string());
    let answer = send(app.http.head(app.url("/nowhere"))).await;
    assert_eq!((answer.status, answer.text.as_str()), (404, ""));
}

#[tokio::test]
async fn head_of_an_endless_answer_leaves_the_connection_to_the_next_request() {
    let app = start_with(options(), Readiness::new(), |config| {
        let endless = || async { HttpResponse::Ok().streaming(pending::<Result<Bytes, Infallible>>()) };
        config.service(resource("/endless").route(get().to(endless)));
    });
    let mut connection = app.connect().await;
    connection.write_all(b"HEAD /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_head(&mut connection).await.status, 200);
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_one(&mut connection).await.status, 200);
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_lives_on() {
    let app = start();
    for _ in 0..8 {
        let problem = app.get("/panic").await.problem(500, "internal");
        assert!(!problem.to_string().contains("on purpose"), "{problem}");
    }
    assert_eq!(app.get("/livez").await.status, 200);
}

#[tokio::test]
async fn an_internal_error_tells_nothing_of_the_inside() {
    let app = start();
    let problem = app.get("/fail").await.problem(500, "internal");
    assert!(!problem.to_string().contains("postgres"), "{problem}");
}

#[tokio::test]
async fn the_openapi_document_has_the_services_routes_and_the_common_ones() {
    let app = start();
    let document = app.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    assert_eq!(document["info"]["title"], "things");
    for path in ["/things", "/things/{id}", "/livez", "/readyz", "/metrics"] {
        assert!(document["paths"][path].is_object(), "{path} is missing");
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert!(document["components"]["schemas"]["Problem"]["properties"]["trace_id"].is_object());
}

#[tokio::test]
async fn the_documentation_works_without_the_internet() {
    let app = start();
    let answer = app.get("/docs").await;
    assert_eq!((answer.status, answer.header("location")), (308, "/docs/"));
    let page = app.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);

    let sources = page.text.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let sources: Vec<_> = sources.collect();
    assert!(sources.len() >= 3, "{sources:?}");
    for source in sources {
        let file = app.get(&format!("/docs/{}", source.trim_start_matches("./"))).await;
        assert_eq!(file.status, 200, "{source}");
        assert!(!file.text.is_empty(), "{source}");
    }
    let start = app.get("/docs/swagger-initializer.js").await.text;
    assert!(start.contains("/openapi.json") && start.contains(r#""validatorUrl": "none""#), "{start}");
}
