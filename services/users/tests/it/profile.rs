//! `/users/me`: seeing and changing one's own profile.

use events::users::v1::PasswordChanged;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, PASSWORD, Session, TestApp, send};

const NEW: &str = "another-long-secret-1";

async fn change(app: &TestApp, session: &Session, tag: Option<&str>, body: Value) -> Answer {
    let mut request = app.request(Method::PATCH, "/users/me").bearer_auth(&session.access).json(&body);
    if let Some(tag) = tag {
        request = request.header("if-match", tag);
    }
    send(request).await
}

async fn tag(app: &TestApp, session: &Session) -> String {
    app.call(Method::GET, "/users/me", session, None).await.header("etag").to_owned()
}

#[tokio::test]
async fn a_profile_has_a_version_and_is_sent_only_when_it_is_news() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    let answer = app.call(Method::GET, "/users/me", &session, None).await;
    let mut profile = answer.expect(200);
    assert!(profile.as_object_mut().unwrap().remove("created_at").unwrap().is_string());
    let expected =
        json!({ "id": id, "email": "ada@example.org", "name": "Ada Lovelace", "role": "customer", "verified": false });
    assert_eq!(profile, expected);
    assert_eq!(answer.header("etag"), "\"1\"");

    let known = async |tag: &str| {
        send(app.request(Method::GET, "/users/me").bearer_auth(&session.access).header("if-none-match", tag)).await
    };
    let unchanged = known("\"1\"").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.text.as_str()), (304, ""));
    assert_eq!(unchanged.header("etag"), "\"1\"");
    known("\"0\"").await.expect(200);
    app.close().await;
}

#[tokio::test]
async fn a_change_needs_the_version_that_it_was_made_to() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    let name = |name: &str| json!({ "name": name });
    change(&app, &session, None, name("Ada King")).await.expect_problem(428, "if-match-required");
    let changed = change(&app, &session, Some("\"1\""), name("Ada King")).await;
    assert_eq!(changed.expect(200)["name"], "Ada King");
    assert_eq!(changed.header("etag"), "\"2\"");
    change(&app, &session, Some("\"1\""), name("Ada Byron")).await.expect_problem(412, "version-moved");
    assert_eq!(app.call(Method::GET, "/users/me", &session, None).await.expect(200)["name"], "Ada King");
    app.close().await;
}

#[tokio::test]
async fn of_changes_to_one_version_at_once_one_is_made() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    let names: Vec<_> = (0..6).map(|i| format!("Ada {i}")).collect();
    let answers =
        join_all(names.iter().map(|name| change(&app, &session, Some("\"1\""), json!({ "name": name })))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    let profile = app.call(Method::GET, "/users/me", &session, None).await;
    assert_eq!(profile.text, made[0].text);
    assert_eq!(profile.header("etag"), "\"2\"");
    app.close().await;
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_every_session() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let (here, there) = (app.login("ada@example.org").await, app.login("ada@example.org").await);
    let at = tag(&app, &here).await;
    let both = |current: &str| json!({ "current_password": current, "new_password": NEW });
    change(&app, &here, Some(&at), both("not the password")).await.expect_problem(403, "wrong-password");
    assert_eq!(app.stage.events::<PasswordChanged>().await, []);

    let changed = change(&app, &here, Some(&at), both(PASSWORD)).await;
    changed.expect(200);
    assert_ne!(changed.header("etag"), at);
    assert_eq!(app.stage.events::<PasswordChanged>().await, [PasswordChanged { user_id: id }]);
    for session in [&here, &there] {
        assert_eq!(app.knows(session).await, 401);
        app.renew(session).await.expect_problem(401, "session-ended");
    }
    app.try_login("ada@example.org", PASSWORD).await.expect(401);
    app.try_login("ada@example.org", NEW).await.expect(201);
    app.close().await;
}

#[tokio::test]
async fn a_change_that_changes_nothing_or_half_a_password_is_refused() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    for (body, pointers) in [
        (json!({}), &["#"][..]),
        (json!({ "name": null }), &["#"]),
        (json!({ "name": " " }), &["#/name"]),
        (json!({ "new_password": NEW }), &["#/current_password"]),
        (json!({ "current_password": PASSWORD }), &["#/new_password"]),
        (json!({ "current_password": PASSWORD, "new_password": "password1234" }), &["#/new_password"]),
        (json!({ "name": "", "current_password": PASSWORD, "new_password": "short" }), &["#/name", "#/new_password"]),
    ] {
        change(&app, &session, Some("\"1\""), body).await.expect_fields("invalid-fields", pointers);
    }
    assert_eq!(tag(&app, &session).await, "\"1\"");
    app.close().await;
}

#[tokio::test]
async fn a_link_for_a_new_password_does_nothing_once_the_owner_has_changed_it() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    app.post("/password-resets", json!({ "email": "ada@example.org" })).await.expect(202);
    let link = format!("/password-resets/{}", app.reset_tokens(&id).await.pop().unwrap());
    let session = app.login("ada@example.org").await;
    let at = tag(&app, &session).await;
    change(&app, &session, Some(&at), json!({ "current_password": PASSWORD, "new_password": NEW })).await.expect(200);
    app.put(&link, json!({ "password": "what-somebody-else-wants-1" })).await.expect_problem(410, "link-outdated");
    assert!(app.browse(Method::GET, &link, "").await.expect_page(410).contains("changed since"));
    app.try_login("ada@example.org", NEW).await.expect(201);
    app.close().await;
}

#[tokio::test]
async fn a_stolen_access_token_is_not_enough_to_guess_the_password() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    let guess = json!({ "current_password": "not the password", "new_password": NEW });
    change(&app, &session, Some("\"1\""), guess.clone()).await.expect_problem(403, "wrong-password");
    app.stage.execute("update throttles set failures = 20 where scope = 'account'").await;
    change(&app, &session, Some("\"1\""), guess.clone()).await.expect_problem(403, "wrong-password");
    change(&app, &session, Some("\"1\""), guess).await.expect_problem(429, "too-many-attempts");
    app.call(Method::DELETE, "/users/me", &session, Some(json!({ "password": PASSWORD })))
        .await
        .expect_problem(429, "too-many-attempts");
    app.close().await;
}
