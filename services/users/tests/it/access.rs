//! Who may do what: every route, asked by everybody.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    support::{Answer, PASSWORD, Session, TestApp, send},
    tokens::part,
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const ROOT: &str = "root@example.org";
/// What is there for whoever runs the service, in every service the same.
const OPERATIONS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// What `answers` of a [`Row`] are to routes that do not ask who somebody is.
const fn anybody(status: u16) -> [u16; 5] {
    [status; 5]
}

/// A route, an address of it, what is sent there, and what it answers to nobody, to the customer whose things the address names, to another
/// customer, to an operator, and to a token that must not count.
struct Row {
    route: &'static str,
    path: String,
    body: Option<Value>,
    answers: [u16; 5],
}

/// Where Ada's things are: her account, and a link of each kind that was mailed to her. `{session}` and `{refresh}` in the table are a session of
/// hers that is opened for each question.
struct Things {
    account: String,
    proof: String,
    reset: String,
}

fn table(ada: &Things) -> Vec<Row> {
    let row = |route, path: &str, body, answers| Row { route, path: path.to_owned(), body, answers };
    let Things { account, proof, reset } = ada;
    let new = json!({ "email": "new@example.org", "name": "Ada Lovelace", "password": PASSWORD });
    let (password, to_bob) = (json!({ "password": PASSWORD }), json!({ "email": BOB }));
    let login = json!({ "email": ADA, "password": PASSWORD });
    let role = Some(json!({ "role": "customer" }));
    vec![
        row("get /.well-known/jwks.json", "/.well-known/jwks.json", None, anybody(200)),
        row("post /users", "/users", Some(new), anybody(202)),
        row("post /email-verifications", "/email-verifications", Some(to_bob.clone()), anybody(202)),
        row("get /email-verifications/{token}", proof, None, anybody(200)),
        row("post /email-verifications/{token}", proof, None, anybody(200)),
        row("post /password-resets", "/password-resets", Some(to_bob), anybody(202)),
        row("get /password-resets/{token}", reset, None, anybody(200)),
        row("put /password-resets/{token}", reset, Some(password.clone()), anybody(204)),
        row("post /password-resets/{token}", reset, Some(password.clone()), anybody(200)),
        row("post /sessions", "/sessions", Some(login), anybody(201)),
        row("post /sessions/renewal", "/sessions/renewal", Some(json!({ "refresh_token": "{refresh}" })), anybody(200)),
        row("delete /sessions/current", "/sessions/current", None, [401, 204, 204, 204, 401]),
        row("delete /sessions/{id}", "/sessions/{session}", None, [401, 204, 404, 404, 401]),
        row("get /users", "/users", None, [401, 403, 403, 200, 401]),
        row("put /users/{id}/role", &format!("/users/{account}/role"), role, [401, 403, 403, 200, 401]),
        // Everybody's own.
        row("get /users/me", "/users/me", None, [401, 200, 200, 200, 401]),
        row("patch /users/me", "/users/me", Some(json!({ "name": "Ada King" })), [401, 200, 200, 200, 401]),
        // The last row, because whose account it is has none afterwards. The last operator stays.
        row("delete /users/me", "/users/me", Some(password), [401, 204, 204, 409, 401]),
    ]
}

async fn open() -> (TestApp, Things) {
    let app = TestApp::start_with(&["--operator-email", ROOT, "--operator-password", PASSWORD]).await;
    let account = app.registered(ADA).await;
    app.registered(BOB).await;
    app.post("/password-resets", json!({ "email": ADA })).await.expect(202);
    let proof = format!("/email-verifications/{}", app.verification_tokens(&account).await.remove(0));
    let reset = format!("/password-resets/{}", app.reset_tokens(&account).await.remove(0));
    (app, Things { account, proof, reset })
}

/// Tokens that must not count, with what is wrong with each. All but the last are of a session that lives, and of an operator.
async fn refused(app: &TestApp, root: &Session) -> Vec<(&'static str, String)> {
    let key: Vec<u8> =
        sqlx::query_scalar("select private_key from signing_keys").fetch_one(&app.stage.database.pool).await.unwrap();
    let (own, foreign) = (EncodingKey::from_ed_der(&key), [&key[..16], [7; 32].as_slice()].concat());
    let kid = part(&root.access, 0)["kid"].as_str().map(str::to_owned);
    let header = Header { kid, ..Header::new(Algorithm::EdDSA) };
    let claims = part(&root.access, 1);
    let mut expired = claims.clone();
    expired["exp"] = json!(claims["iat"].as_i64().unwrap() - 60);
    let unsigned = json!({ "alg": "none", "typ": "JWT", "kid": header.kid });
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let ended = app.login(ROOT).await;
    app.call(Method::DELETE, "/sessions/current", &ended, None).await.expect(204);
    vec![
        ("expired", jsonwebtoken::encode(&header, &expired, &own).unwrap()),
        ("forged", jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&foreign)).unwrap()),
        ("unsigned", format!("{}.{}.", encoded(&unsigned), encoded(&claims))),
        ("garbage", "open sesame".to_owned()),
        ("of a session that has ended", ended.access),
    ]
}

/// Asks, with all of Ada's things as new.
async fn ask(app: &TestApp, ada: &Things, row: &Row, token: Option<&str>) -> Answer {
    let reopen =
        format!("update one_time_tokens set closed_at = null, closed_by = null where user_id = '{}'", ada.account);
    app.stage.execute(&reopen).await;
    let (mut path, mut body) = (row.path.clone(), row.body.clone().map(|body| body.to_string()).unwrap_or_default());
    if path.contains("{session}") || body.contains("{refresh}") {
        let session = app.login(ADA).await;
        (path, body) = (path.replace("{session}", &session.id), body.replace("{refresh}", &session.refresh));
    }
    let mut content_type = "application/json";
    if row.route == "post /password-resets/{token}" {
        (content_type, body) = ("application/x-www-form-urlencoded", format!("password={PASSWORD}"));
    }
    let method = Method::from_bytes(row.route.split(' ').next().unwrap().to_uppercase().as_bytes()).unwrap();
    let mut request = app.request(method, &path);
    if row.route.starts_with("patch") {
        request = request.header("if-match", "*");
    }
    if !body.is_empty() {
        request = request.header("content-type", content_type).body(body);
    }
    let answer = send(if let Some(token) = token { request.bearer_auth(token) } else { request }).await;
    assert!(!answer.headers.contains_key("set-cookie"), "tokens are in bodies only: {answer:?}");
    answer
}

/// What is the same in answers to different people: everything but times and the values of members.
fn outline(answer: &Answer) -> (u16, String, String) {
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let text = match json.as_object() {
        Some(members) => members.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
        None => answer.text.clone(),
    };
    let content_type = answer.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
    (answer.status.as_u16(), content_type.to_owned(), text)
}

fn complete(table: &[Row], document: &Value) {
    let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| !OPERATIONS.contains(&path.as_str()));
    let documented: BTreeSet<_> = paths
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    let listed: BTreeSet<_> = table.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(listed, documented, "every documented route is in the table, and no other");
    assert_eq!(listed.len(), table.len(), "and each once");
}

#[tokio::test]
async fn every_route_answers_everybody_as_it_should() {
    let (app, ada) = open().await;
    let document = app.get("/openapi.json").await.expect(200);
    let table = table(&ada);
    complete(&table, &document);
    let root = app.login(ROOT).await;
    let refused = refused(&app, &root).await;
    for row in &table {
        let Row { route, answers: [nobody, owner, other, operator, no_token], .. } = row;
        let (method, pattern) = route.split_once(' ').unwrap();
        let operation = &document["paths"][pattern][method];
        let is_public = *nobody != 401;
        assert_eq!(operation["security"][0]["bearer"].is_array(), !is_public, "{route} is documented as what it is");

        let anonymous = ask(&app, &ada, row, None).await;
        assert_eq!(anonymous.status, *nobody, "{route} by nobody: {}", anonymous.text);
        if !is_public {
            anonymous.expect_problem(401, "unauthorized");
            assert_eq!(anonymous.header("www-authenticate"), "Bearer realm=\"postrider\"", "{route}");
        }
        for (wrong, token) in &refused {
            let answer = ask(&app, &ada, row, Some(token)).await;
            assert_eq!(answer.status, *no_token, "{route} with a token that is {wrong}: {}", answer.text);
            if is_public {
                assert_eq!(outline(&answer), outline(&anonymous), "{route} with a token that is {wrong}");
            } else {
                answer.expect_problem(401, "invalid-token");
                assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{route} {wrong}");
            }
        }
        for (who, status) in [(ADA, owner), (BOB, other), (ROOT, operator)] {
            let session = app.login(who).await;
            let answer = ask(&app, &ada, row, Some(&session.access)).await;
            assert_eq!(answer.status, *status, "{route} by {who}: {}", answer.text);
            assert!(operation["responses"].get(status.to_string()).is_some(), "{route} documents {status}");
            if is_public {
                assert_eq!(outline(&answer), outline(&anonymous), "{route} by {who}");
            }
        }
    }
    assert_eq!(app.knows(&root).await, 200, "no token that must not count has ended its session");
    let left = app.call(Method::GET, "/users", &root, None).await.expect(200)["users"].clone();
    let left: Vec<_> = left.as_array().unwrap().iter().map(|user| (&user["email"], &user["role"])).collect();
    let (operator, customer) = (json!("operator"), json!("customer"));
    assert_eq!(left, [(&json!(ROOT), &operator), (&json!("new@example.org"), &customer)]);
    app.close().await;
}

#[tokio::test]
async fn somebody_elses_session_and_account_are_none_at_all() {
    let (app, ada) = open().await;
    let (mine, bob, root) = (app.login(ADA).await, app.login(BOB).await, app.login(ROOT).await);
    let nothing = "018f0000-0000-7000-8000-000000000000";
    for who in [&bob, &root] {
        let end = async |id: &str| app.call(Method::DELETE, &format!("/sessions/{id}"), who, None).await;
        let theirs = end(&mine.id).await;
        theirs.expect_problem(404, "no-such-session");
        assert_eq!(theirs.comparable(), end(nothing).await.comparable());
    }
    assert_eq!(app.knows(&mine).await, 200);
    app.renew(&mine).await.expect(200);

    let promote = async |id: &str| {
        let body = Some(json!({ "role": "operator" }));
        app.call(Method::PUT, &format!("/users/{id}/role"), &bob, body).await
    };
    let theirs = promote(&ada.account).await;
    theirs.expect_problem(403, "operators-only");
    assert_eq!(theirs.comparable(), promote(nothing).await.comparable());
    assert_eq!(theirs.comparable(), promote(&app.id_of(BOB).await).await.comparable());
    let operators = "select count(*) from users where role = 'operator'";
    assert_eq!(app.stage.count(operators).await, 1);
    app.close().await;
}

/// Links and refresh tokens are for whoever holds them. An access token that comes along changes nothing.
#[tokio::test]
async fn a_link_or_a_refresh_token_acts_for_its_account_whoever_presents_it() {
    let (app, ada) = open().await;
    let (mine, bob) = (app.login(ADA).await, app.login(BOB).await);
    let me = async |session: &Session| app.call(Method::GET, "/users/me", session, None).await.expect(200);
    app.call(Method::POST, &ada.proof, &bob, None).await.expect(200);
    assert_eq!((&me(&mine).await["verified"], &me(&bob).await["verified"]), (&json!(true), &json!(false)));

    let body = Some(json!({ "refresh_token": mine.refresh }));
    let renewed = app.call(Method::POST, "/sessions/renewal", &bob, body).await.expect(200);
    assert_eq!(me(&Session::of(&renewed)).await["id"], ada.account);

    let body = Some(json!({ "password": "another-long-secret-1" }));
    app.call(Method::PUT, &ada.reset, &bob, body).await.expect(204);
    assert_eq!((app.knows(&mine).await.as_u16(), app.knows(&bob).await.as_u16()), (401, 200));
    app.login(BOB).await;
    app.close().await;
}
