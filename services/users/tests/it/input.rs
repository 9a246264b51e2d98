//! Requests that are not as they should be: each is answered with a problem that says what to do, and leaves nothing behind.

use reqwest::Method;
use serde_json::json;

use crate::support::{PASSWORD, TestApp, send};

/// Routes that take JSON without a login.
const ROUTES: [&str; 5] = ["/users", "/email-verifications", "/password-resets", "/sessions", "/sessions/renewal"];

#[tokio::test]
async fn what_is_not_json_is_malformed() {
    let app = TestApp::start().await;
    for path in ROUTES {
        for body in ["", "{", "email=ada", "{\"", "\u{0}"] {
            let request = app.request(Method::POST, path).header("content-type", "application/json").body(body);
            send(request).await.expect_problem(400, "malformed-json");
        }
    }
    let two = r#"{"email":"ada@example.org"} {"email":"ada@example.org"}"#;
    let request = app.request(Method::POST, "/password-resets").header("content-type", "application/json").body(two);
    send(request).await.expect_problem(400, "malformed-json");
    app.close().await;
}

#[tokio::test]
async fn json_must_be_declared_as_json() {
    let app = TestApp::start().await;
    for path in ROUTES {
        for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
            let request = app.request(Method::POST, path).header("content-type", content_type).body("{}");
            send(request).await.expect_problem(415, "unsupported-media-type");
        }
        send(app.request(Method::POST, path).body("{}")).await.expect_problem(415, "unsupported-media-type");
    }
    app.close().await;
}

#[tokio::test]
async fn unknown_missing_and_mistyped_fields_are_named() {
    let app = TestApp::start().await;
    let full = json!({ "email": "ada@example.org", "name": "Ada", "password": PASSWORD });
    let mut unknown = full.clone();
    unknown["role"] = json!("operator");
    app.post("/users", unknown).await.expect_fields("invalid", &["#/role"]);
    let mut missing = full.clone();
    missing.as_object_mut().unwrap().remove("name");
    app.post("/users", missing).await.expect_fields("invalid", &["#/name"]);
    for wrong in [json!(7), json!(null), json!(["ada@example.org"]), json!({})] {
        let mut mistyped = full.clone();
        mistyped["email"] = wrong;
        app.post("/users", mistyped).await.expect_fields("invalid", &["#/email"]);
    }
    for path in ROUTES {
        app.post(path, json!([])).await.expect_problem(422, "invalid");
        app.post(path, json!({ "surplus": 1 })).await.expect_problem(422, "invalid");
    }
    let mut secret = full;
    secret["password"] = json!({ "a": "hush-hush-hush" });
    assert!(!app.post("/users", secret).await.text.contains("hush"), "the answer repeats the password");
    assert_eq!(app.stage.count("select count(*) from users").await, 0);
    app.close().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let app = TestApp::start().await;
    for path in ROUTES {
        let answer = app.post(path, json!({ "email": "x".repeat(300 * 1024) })).await;
        answer.expect_problem(413, "payload-too-large");
    }
    app.close().await;
}

#[tokio::test]
async fn a_bad_address_is_refused_everywhere() {
    let app = TestApp::start().await;
    let long = format!("{}@example.org", "a".repeat(250));
    for email in [
        "",
        "ada",
        "ada@",
        "@example.org",
        "ada@localhost",
        "a b@example.org",
        "ada@example.org\r\nBcc: eve@example.org",
        &long,
    ] {
        let problem = app.post("/users", json!({ "email": email, "name": "Ada", "password": PASSWORD })).await;
        problem.expect_fields("invalid-fields", &["#/email"]);
        for path in ["/email-verifications", "/password-resets"] {
            app.post(path, json!({ "email": email })).await.expect_fields("invalid-fields", &["#/email"]);
        }
        app.post("/sessions", json!({ "email": email, "password": PASSWORD }))
            .await
            .expect_fields("invalid-fields", &["#/email"]);
    }
    app.close().await;
}

#[tokio::test]
async fn a_path_or_a_method_that_is_not_there_is_said_so() {
    let app = TestApp::start().await;
    app.get("/nowhere").await.expect_problem(404, "not-found");
    let answer = send(app.request(Method::PUT, "/users")).await;
    answer.expect_problem(405, "method-not-allowed");
    let mut allowed: Vec<_> = answer.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    send(app.request(Method::GET, "/sessions")).await.expect_problem(405, "method-not-allowed");
    app.close().await;
}
