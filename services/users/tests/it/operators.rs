//! The first operator, the list of accounts, and roles.

use events::users::v1::{UserRegistered, UserVerified};
use reqwest::Method;
use serde_json::json;
use testkit::eventually;
use users::App;

use crate::support::{PASSWORD, Session, Stage, TestApp};

const ROOT: &[&str] = &["--operator-email", "root@example.org", "--operator-password", "operator-otter-sings-42"];

async fn operator(app: &TestApp) -> Session {
    Session::of(&app.try_login("root@example.org", "operator-otter-sings-42").await.expect(201))
}

#[tokio::test]
async fn the_first_operator_is_made_once_however_many_replicas_start() {
    let stage = Stage::new().await;
    TestApp::on(stage.clone(), &[]).await.close().await;
    // All of them have seen that there is no operator before any of them can make one.
    let mut gate = stage.database.pool.acquire().await.unwrap();
    sqlx::raw_sql("begin; lock table users in share mode").execute(&mut *gate).await.unwrap();
    let open = async {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("three wait for the table", async || stage.count(waiting).await == 3).await;
        sqlx::raw_sql("commit").execute(&mut *gate).await.unwrap();
    };
    let build = || App::build(stage.config(ROOT));
    let (first, second, third, ()) = tokio::join!(build(), build(), build(), open);
    let apps = [first, second, third].map(|app| TestApp::run(stage.clone(), app.unwrap()));
    assert_eq!(stage.count("select count(*) from users where role = 'operator' and verified_at is not null").await, 1);
    assert_eq!(stage.count("select count(*) from users").await, 1);
    assert_eq!(stage.events::<UserRegistered>().await.len(), 1);
    assert_eq!(stage.events::<UserVerified>().await.len(), 1);
    let session = operator(&apps[0]).await;
    assert_eq!(apps[1].call(Method::GET, "/users/me", &session, None).await.expect(200)["role"], "operator");
    for app in apps {
        app.close().await;
    }

    let other = ["--operator-email", "other@example.org", "--operator-password", "operator-otter-sings-43"];
    TestApp::on(stage.clone(), &other).await.close().await;
    assert_eq!(stage.count("select count(*) from users").await, 1, "there is an operator already");
}

#[tokio::test]
async fn whoever_registered_the_operators_address_before_does_not_become_the_operator() {
    let app = TestApp::start().await;
    let id = app.registered("Root@example.org").await;
    let squatter = app.login("root@example.org").await;
    let replica = TestApp::on(app.stage.clone(), ROOT).await;
    assert_eq!(app.knows(&squatter).await, 401);
    app.try_login("root@example.org", PASSWORD).await.expect(401);
    let session = operator(&app).await;
    assert_eq!(app.call(Method::GET, "/users/me", &session, None).await.expect(200)["id"], id);
    replica.close().await;
    app.close().await;
}

#[tokio::test]
async fn a_weak_operator_password_stops_the_start() {
    let stage = Stage::new().await;
    let weak = ["--operator-email", "root@example.org", "--operator-password", "password1234"];
    let error = App::build(stage.config(&weak)).await.err().unwrap();
    assert!(format!("{error:#}").contains("OPERATOR_PASSWORD"), "{error:#}");
    assert!(!format!("{error:#}").contains("password1234"), "{error:#}");
}

#[tokio::test]
async fn operators_see_the_accounts_in_pages_and_others_do_not() {
    let app = TestApp::start_with(ROOT).await;
    for i in 0..5 {
        app.registered(&format!("user{i}@example.org")).await;
    }
    let customer = app.login("user0@example.org").await;
    app.call(Method::GET, "/users", &customer, None).await.expect_problem(403, "operators-only");
    app.get("/users").await.expect_problem(401, "unauthorized");

    let session = operator(&app).await;
    let (mut path, mut seen, mut pages) = ("/users?limit=2".to_owned(), Vec::new(), 0);
    loop {
        let page = app.call(Method::GET, &path, &session, None).await;
        let users = page.expect(200)["users"].clone();
        seen.extend(users.as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(link) = page.headers.get("link") else { break };
        path = link.to_str().unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    }
    let expected = ["root", "user0", "user1", "user2", "user3", "user4"].map(|name| format!("{name}@example.org"));
    assert_eq!((seen, pages), (expected.to_vec(), 3));
    for query in ["limit=0", "limit=101", "limit=x", "after=x"] {
        app.call(Method::GET, &format!("/users?{query}"), &session, None).await.expect_problem(400, "bad-request");
    }
    app.close().await;
}

#[tokio::test]
async fn a_role_counts_at_once_here_and_in_the_next_token_elsewhere() {
    let app = TestApp::start_with(ROOT).await;
    let id = app.registered("ada@example.org").await;
    let (root, ada) = (operator(&app).await, app.login("ada@example.org").await);
    let role = async |session: &Session, id: &str, role: &str| {
        app.call(Method::PUT, &format!("/users/{id}/role"), session, Some(json!({ "role": role }))).await
    };
    role(&ada, &id, "operator").await.expect_problem(403, "operators-only");
    assert_eq!(role(&root, &id, "operator").await.expect(200)["role"], "operator");
    app.call(Method::GET, "/users", &ada, None).await.expect(200);
    assert_eq!(role(&root, &id, "operator").await.expect(200)["role"], "operator", "again changes nothing");
    assert_eq!(app.call(Method::GET, "/users/me", &ada, None).await.header("etag"), "\"2\"");

    let root_id = app.id_of("root@example.org").await;
    assert_eq!(role(&ada, &root_id, "customer").await.expect(200)["role"], "customer");
    app.call(Method::GET, "/users", &root, None).await.expect_problem(403, "operators-only");

    role(&ada, "018f0000-0000-7000-8000-000000000000", "customer").await.expect_problem(404, "no-such-user");
    role(&ada, "nonsense", "customer").await.expect_problem(400, "bad-request");
    role(&ada, &id, "emperor").await.expect_fields("invalid", &["#/role"]);
    app.close().await;
}

#[tokio::test]
async fn the_last_operator_can_neither_step_down_nor_leave() {
    let app = TestApp::start_with(ROOT).await;
    let root = operator(&app).await;
    let root_id = app.id_of("root@example.org").await;
    let role = format!("/users/{root_id}/role");
    app.call(Method::PUT, &role, &root, Some(json!({ "role": "customer" }))).await.expect_problem(409, "last-operator");
    let goodbye = Some(json!({ "password": "operator-otter-sings-42" }));
    app.call(Method::DELETE, "/users/me", &root, goodbye).await.expect_problem(409, "last-operator");
    assert_eq!(app.call(Method::GET, "/users/me", &root, None).await.expect(200)["role"], "operator");
    app.close().await;
}

#[tokio::test]
async fn of_two_operators_who_remove_each_other_at_once_one_remains() {
    let app = TestApp::start_with(ROOT).await;
    let root = operator(&app).await;
    let root_id = app.id_of("root@example.org").await;
    let ada_id = app.registered("ada@example.org").await;
    let ada = app.login("ada@example.org").await;
    let role = |session: &Session, id: &str, role: &str| {
        let (path, session, body) = (format!("/users/{id}/role"), session.clone(), json!({ "role": role }));
        let app = &app;
        async move { app.call(Method::PUT, &path, &session, Some(body)).await }
    };
    for _ in 0..5 {
        app.stage.execute("update users set role = 'operator'").await;
        let (a, b) = tokio::join!(role(&root, &ada_id, "customer"), role(&ada, &root_id, "customer"));
        let statuses = [a.status.as_u16(), b.status.as_u16()];
        // The second one has lost the role before it asks, or while it does.
        assert!(statuses.contains(&200) && (statuses.contains(&403) || statuses.contains(&409)), "{statuses:?}");
        assert_eq!(app.stage.count("select count(*) from users where role = 'operator'").await, 1);
    }
    app.close().await;
}
