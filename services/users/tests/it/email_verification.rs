//! `/email-verifications`: the mailed link.

use events::users::v1::{EmailVerificationRequested, UserVerified};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::TestApp;

async fn mailed(app: &TestApp, email: &str) -> (String, String) {
    let id = app.registered(email).await;
    let token = app.verification_tokens(&id).await.pop().unwrap();
    (id, format!("/email-verifications/{token}"))
}

#[tokio::test]
async fn a_person_opens_the_link_and_presses_the_button() {
    let app = TestApp::start().await;
    let (id, link) = mailed(&app, "ada@example.org").await;
    for _ in 0..2 {
        let page = app.browse(Method::GET, &link, "").await;
        assert!(page.expect_page(200).contains("<form method=\"post\">"));
    }
    assert_eq!(app.stage.events::<UserVerified>().await, [], "opening the page changes nothing: mail scanners do it");

    let session = app.login("ada@example.org").await;
    let unverified = app.call(Method::GET, "/users/me", &session, None).await;
    assert_eq!(unverified.expect(200)["verified"], false);

    assert!(app.browse(Method::POST, &link, "").await.expect_page(200).contains("confirmed"));
    assert_eq!(app.stage.events::<UserVerified>().await, [UserVerified { user_id: id }]);
    let verified = app.call(Method::GET, "/users/me", &session, None).await;
    assert_eq!(verified.expect(200)["verified"], true);
    assert_ne!(unverified.header("etag"), verified.header("etag"));
    app.close().await;
}

#[tokio::test]
async fn a_program_gets_json() {
    let app = TestApp::start().await;
    let (id, link) = mailed(&app, "ada@example.org").await;
    let answer = app.post(&link, json!({})).await;
    assert!(answer.expect(200)["message"].as_str().unwrap().contains("confirmed"));
    assert_eq!(app.stage.events::<UserVerified>().await, [UserVerified { user_id: id }]);
    app.close().await;
}

#[tokio::test]
async fn a_link_works_once() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    app.post(&link, json!({})).await.expect(200);
    app.post(&link, json!({})).await.expect_problem(410, "link-used");
    app.get(&link).await.expect_problem(410, "link-used");
    assert!(app.browse(Method::POST, &link, "").await.expect_page(410).contains("used already"));
    assert_eq!(app.stage.events::<UserVerified>().await.len(), 1);
    app.close().await;
}

#[tokio::test]
async fn of_two_who_press_the_button_at_once_one_verifies() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    let answers = join_all((0..8).map(|_| app.post(&link, json!({})))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.expect_problem(410, "link-used");
    }
    assert_eq!(app.stage.events::<UserVerified>().await.len(), 1);
    app.close().await;
}

#[tokio::test]
async fn a_link_expires() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    app.stage.execute("update one_time_tokens set expires_at = now()").await;
    app.post(&link, json!({})).await.expect_problem(410, "link-expired");
    app.get(&link).await.expect_problem(410, "link-expired");
    assert!(app.browse(Method::GET, &link, "").await.expect_page(410).contains("expired"));
    assert_eq!(app.stage.events::<UserVerified>().await, []);
    app.close().await;
}

#[tokio::test]
async fn a_link_that_was_never_sent_is_unknown() {
    let app = TestApp::start().await;
    for token in ["A".repeat(43).as_str(), "short", "not%20base64", &"A".repeat(500)] {
        let link = format!("/email-verifications/{token}");
        app.get(&link).await.expect_problem(404, "link-unknown");
        app.post(&link, json!({})).await.expect_problem(404, "link-unknown");
        assert!(app.browse(Method::POST, &link, "").await.expect_page(404).contains("no such link"));
    }
    app.close().await;
}

#[tokio::test]
async fn a_newer_link_replaces_the_older_one() {
    let app = TestApp::start().await;
    let (id, older) = mailed(&app, "ada@example.org").await;
    app.a_minute_later().await;
    app.post("/email-verifications", json!({ "email": "ADA@example.org" })).await.expect(202);
    let tokens = app.verification_tokens(&id).await;
    assert_eq!(tokens.len(), 2);
    app.post(&older, json!({})).await.expect_problem(410, "link-replaced");
    app.post(&format!("/email-verifications/{}", tokens[1]), json!({})).await.expect(200);
    app.close().await;
}

#[tokio::test]
async fn asking_again_sends_at_most_one_mail_a_minute() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let ask = || app.post("/email-verifications", json!({ "email": "ada@example.org" }));
    ask().await.expect(202);
    assert_eq!(app.verification_tokens(&id).await.len(), 1, "the registration has just sent one");
    app.a_minute_later().await;
    for answer in join_all((0..8).map(|_| ask())).await {
        answer.expect(202);
    }
    assert_eq!(app.verification_tokens(&id).await.len(), 2);
    app.close().await;
}

#[tokio::test]
async fn asking_does_not_tell_whether_the_address_has_an_account_or_is_verified() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "verified@example.org").await;
    app.post(&link, json!({})).await.expect(200);
    app.registered("waiting@example.org").await;
    app.a_minute_later().await;
    let sent = app.stage.events::<EmailVerificationRequested>().await.len();
    let ask = async |email: &str| app.post("/email-verifications", json!({ "email": email })).await.comparable();
    let waiting = ask("waiting@example.org").await;
    assert_eq!(waiting.0, 202);
    assert_eq!(waiting, ask("verified@example.org").await);
    assert_eq!(waiting, ask("nobody@example.org").await);
    assert_eq!(app.stage.events::<EmailVerificationRequested>().await.len(), sent + 1);
    app.post("/email-verifications", json!({ "email": "no address" }))
        .await
        .expect_fields("invalid-fields", &["#/email"]);
    app.close().await;
}

#[tokio::test]
async fn a_link_serves_no_other_purpose() {
    let app = TestApp::start().await;
    let (id, link) = mailed(&app, "ada@example.org").await;
    let token = link.rsplit('/').next().unwrap();
    let body = json!({ "password": "another-long-secret-1" });
    app.put(&format!("/password-resets/{token}"), body).await.expect_problem(404, "link-unknown");
    app.post("/password-resets", json!({ "email": "ada@example.org" })).await.expect(202);
    let reset = app.reset_tokens(&id).await.remove(0);
    app.post(&format!("/email-verifications/{reset}"), json!({})).await.expect_problem(404, "link-unknown");
    app.close().await;
}
