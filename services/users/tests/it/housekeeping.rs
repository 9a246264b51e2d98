//! What has ended is forgotten, and what lives is not.

use serde_json::json;
use testkit::eventually;

use crate::support::TestApp;

#[tokio::test]
async fn what_has_ended_is_forgotten_and_what_lives_stays() {
    let app = TestApp::start().await;
    for name in ["old", "new"] {
        app.registered(&format!("{name}@example.org")).await;
        app.try_login(&format!("{name}@example.org"), "not the password").await.expect(401);
    }
    let (ended, lives) = (app.login("old@example.org").await, app.login("new@example.org").await);
    for session in [&ended, &lives] {
        app.renew(session).await.expect(200);
    }
    app.try_login("old@example.org", "not the password").await.expect(401);
    app.try_login("new@example.org", "not the password").await.expect(401);
    let (old, new) = (app.id_of("old@example.org").await, app.id_of("new@example.org").await);

    let is_old = format!("user_id = '{old}'");
    for statement in [
        format!("update one_time_tokens set expires_at = now() - interval '31 days' where {is_old}"),
        format!("update sessions set expires_at = now() - interval '1 second' where {is_old}"),
        format!(
            "update refresh_tokens set expires_at = now() - interval '1 second' where used_at is not null and session_id = '{}'",
            lives.id
        ),
        "update throttles set expires_at = now() - interval '1 second' where scope = 'client'".to_owned(),
        "update mails set requested_at = now() - interval '25 hours'".to_owned(),
        "insert into signing_keys values ('gone', repeat('x', 48)::bytea, now(), now(), now() - interval '31 days')"
            .to_owned(),
    ] {
        assert!(app.stage.execute(&statement).await > 0, "{statement}");
    }
    app.post("/password-resets", json!({ "email": "new@example.org" })).await.expect(202);

    // Every replica looks as soon as it starts.
    let replica = app.replica().await;
    let stage = &app.stage;
    eventually("the last table is clean", async || stage.count("select count(*) from signing_keys").await == 1).await;
    for (query, left) in [
        (format!("select count(*) from one_time_tokens where {is_old}"), 0),
        (format!("select count(*) from one_time_tokens where user_id = '{new}'"), 2),
        (format!("select count(*) from sessions where {is_old}"), 0),
        (format!("select count(*) from sessions where user_id = '{new}'"), 1),
        (format!("select count(*) from refresh_tokens where session_id = '{}'", lives.id), 1),
        ("select count(*) from throttles where scope = 'client'".to_owned(), 0),
        ("select count(*) from throttles where scope = 'account'".to_owned(), 2),
        ("select count(*) from mails".to_owned(), 1),
    ] {
        assert_eq!(stage.count(&query).await, left, "{query}");
    }
    replica.close().await;
    app.close().await;
}
