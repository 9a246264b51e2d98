//! `DELETE /users/me`: forgetting somebody.

use events::users::v1::{EmailVerificationRequested, UserDeleted, UserRegistered};
use reqwest::Method;
use serde_json::json;
use testkit::eventually;

use crate::support::{PASSWORD, TestApp};

#[tokio::test]
async fn a_deleted_account_leaves_nothing_personal_behind() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    app.registered("eve@example.org").await;
    app.post("/password-resets", json!({ "email": "ada@example.org" })).await.expect(202);
    let (session, eve) = (app.login("ada@example.org").await, app.login("eve@example.org").await);
    app.try_login("ada@example.org", "not the password").await.expect(401);
    let goodbye = |password: &str| Some(json!({ "password": password }));
    app.call(Method::DELETE, "/users/me", &session, goodbye("wrong")).await.expect_problem(403, "wrong-password");
    let answer = app.call(Method::DELETE, "/users/me", &session, goodbye(PASSWORD)).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));

    let stage = &app.stage;
    eventually("everything is published", async || stage.count("select count(*) from messaging.outbox").await == 0)
        .await;
    assert_eq!(app.stage.events::<UserDeleted>().await, [UserDeleted { user_id: id.clone() }]);
    for table in ["users where id", "sessions where user_id", "one_time_tokens where user_id"] {
        let query = format!("select count(*) from {table} = '{id}'");
        assert_eq!(app.stage.count(&query).await, 0, "{table}");
    }
    assert_eq!(app.stage.count("select count(distinct address) from mails").await, 1, "only the other one's");
    assert_eq!(app.stage.count("select count(*) from throttles where scope = 'account'").await, 0);
    let kept: Vec<_> = app.stage.events::<UserRegistered>().await.into_iter().map(|event| event.email).collect();
    assert_eq!(kept, ["eve@example.org"], "the content of what was published is erased, of others it is not");
    assert!(app.stage.events::<EmailVerificationRequested>().await.iter().all(|event| event.user_id != id));

    assert_eq!(app.knows(&session).await, 401);
    app.renew(&session).await.expect_problem(401, "session-ended");
    app.try_login("ada@example.org", PASSWORD).await.expect_problem(401, "wrong-credentials");
    assert_eq!(app.knows(&eve).await, 200);
    app.close().await;
}

#[tokio::test]
async fn the_address_of_a_deleted_account_can_be_registered_anew() {
    let app = TestApp::start().await;
    let first = app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    app.call(Method::DELETE, "/users/me", &session, Some(json!({ "password": PASSWORD }))).await.expect(204);
    let second = app.registered("ada@example.org").await;
    assert_ne!(first, second);
    app.login("ada@example.org").await;
    app.close().await;
}
