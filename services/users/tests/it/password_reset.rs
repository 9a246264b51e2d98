//! `/password-resets`: a new password for somebody who has lost the old one.

use events::users::v1::{PasswordChanged, PasswordResetRequested, UserVerified};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::{PASSWORD, TestApp};

const NEW: &str = "another-long-secret-1";

async fn mailed(app: &TestApp, email: &str) -> (String, String) {
    let id = app.registered(email).await;
    app.post("/password-resets", json!({ "email": email })).await.expect(202);
    let token = app.reset_tokens(&id).await.pop().unwrap();
    (id, format!("/password-resets/{token}"))
}

#[tokio::test]
async fn a_reset_sets_the_password_ends_every_session_and_verifies_the_address() {
    let app = TestApp::start().await;
    let (id, link) = mailed(&app, "ada@example.org").await;
    let sessions = [app.login("ada@example.org").await, app.login("ada@example.org").await];
    let answer = app.put(&link, json!({ "password": NEW })).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));

    for session in &sessions {
        assert_eq!(app.knows(session).await, 401);
        app.renew(session).await.expect_problem(401, "session-ended");
    }
    app.try_login("ada@example.org", PASSWORD).await.expect_problem(401, "wrong-credentials");
    app.try_login("ada@example.org", NEW).await.expect(201);
    assert_eq!(app.stage.events::<PasswordChanged>().await, [PasswordChanged { user_id: id.clone() }]);
    assert_eq!(app.stage.events::<UserVerified>().await, [UserVerified { user_id: id }]);
    app.put(&link, json!({ "password": PASSWORD })).await.expect_problem(410, "link-used");
    app.close().await;
}

#[tokio::test]
async fn a_person_opens_the_link_and_fills_the_form() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    let page = app.browse(Method::GET, &link, "").await;
    assert!(page.expect_page(200).contains("name=\"password\""));
    let again = app.browse(Method::POST, &link, "password=short").await;
    assert!(again.expect_page(422).contains("at least 12 characters"), "{again:?}");
    assert!(again.text.contains("name=\"password\""));
    app.browse(Method::POST, &link, "passwort=typo").await.expect_problem(400, "bad-request");
    let done = app.browse(Method::POST, &link, "password=another-long+secret%2B1").await;
    assert!(done.expect_page(200).contains("changed"));
    app.try_login("ada@example.org", "another-long secret+1").await.expect(201);
    assert!(
        app.browse(Method::POST, &link, "password=another-long+secret%2B2")
            .await
            .expect_page(410)
            .contains("used already")
    );
    app.close().await;
}

#[tokio::test]
async fn a_refused_password_does_not_use_the_link_up() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    app.put(&link, json!({ "password": "password1234" })).await.expect_fields("invalid-fields", &["#/password"]);
    app.put(&link, json!({ "password": "this is lovelace" })).await.expect_fields("invalid-fields", &["#/password"]);
    app.put(&link, json!({ "password": NEW })).await.expect(204);
    app.close().await;
}

#[tokio::test]
async fn a_link_expires_after_an_hour() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    let hour = "select count(*) from one_time_tokens where purpose = 'reset_password' and expires_at = created_at + interval '1 hour'";
    assert_eq!(app.stage.count(hour).await, 1);
    app.stage.execute("update one_time_tokens set expires_at = now()").await;
    let hashes = app.passwords.hashes_computed();
    app.put(&link, json!({ "password": NEW })).await.expect_problem(410, "link-expired");
    app.put(&format!("/password-resets/{}", "A".repeat(43)), json!({ "password": NEW }))
        .await
        .expect_problem(404, "link-unknown");
    assert_eq!(app.passwords.hashes_computed(), hashes, "a dead link costs no hashing");
    app.try_login("ada@example.org", PASSWORD).await.expect(201);
    app.close().await;
}

#[tokio::test]
async fn of_two_who_follow_a_link_at_once_one_sets_the_password() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    let passwords = [0, 1, 2, 3].map(|i| format!("another-long-secret-{i}"));
    let answers = join_all(passwords.iter().map(|password| app.put(&link, json!({ "password": password })))).await;
    let winners: Vec<_> = (0..4).filter(|i| answers[*i].status == 204).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    app.try_login("ada@example.org", &passwords[winners[0]]).await.expect(201);
    assert_eq!(app.stage.events::<PasswordChanged>().await.len(), 1);
    app.close().await;
}

#[tokio::test]
async fn asking_does_not_tell_whether_the_address_has_an_account_and_mails_once_a_minute() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let ask = async |email: &str| app.post("/password-resets", json!({ "email": email })).await.comparable();
    let known = ask("Ada@example.org").await;
    assert_eq!(known.0, 202);
    assert_eq!(known, ask("nobody@example.org").await);
    assert_eq!(known, ask("ada@example.org").await);
    assert_eq!(app.stage.events::<PasswordResetRequested>().await.len(), 1);
    app.a_minute_later().await;
    ask("ada@example.org").await;
    let tokens = app.reset_tokens(&id).await;
    assert_eq!(tokens.len(), 2);
    let link = |token: &str| format!("/password-resets/{token}");
    app.put(&link(&tokens[0]), json!({ "password": NEW })).await.expect_problem(410, "link-replaced");
    app.put(&link(&tokens[1]), json!({ "password": NEW })).await.expect(204);
    app.close().await;
}

#[tokio::test]
async fn who_got_ten_mails_within_a_day_gets_one_an_hour() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let mails = async || {
        app.post("/password-resets", json!({ "email": "ada@example.org" })).await.expect(202);
        app.stage.events::<PasswordResetRequested>().await.len()
    };
    for count in 1..=10 {
        assert_eq!(mails().await, count);
        app.a_minute_later().await;
    }
    assert_eq!(mails().await, 10);
    app.stage.execute("update mails set requested_at = requested_at - interval '1 hour'").await;
    assert_eq!(mails().await, 11);
    app.a_minute_later().await;
    assert_eq!(mails().await, 11);
    app.stage.execute("update mails set since = since - interval '1 day'").await;
    assert_eq!((mails().await, mails().await), (12, 12));
    app.a_minute_later().await;
    assert_eq!(mails().await, 13);
    app.close().await;
}

#[tokio::test]
async fn a_reset_lets_the_owner_in_whom_somebody_has_locked_out_by_guessing() {
    let app = TestApp::start().await;
    let (_, link) = mailed(&app, "ada@example.org").await;
    app.try_login("ada@example.org", "not the password").await.expect(401);
    app.stage
        .execute(
            "update throttles set failures = 20, blocked_until = now() + interval '5 minutes' where scope = 'account'",
        )
        .await;
    app.try_login("ada@example.org", PASSWORD).await.expect(429);
    app.put(&link, json!({ "password": NEW })).await.expect(204);
    app.try_login("ada@example.org", NEW).await.expect(201);
    app.close().await;
}
