//! Access tokens: what is in them, and which are refused.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Session, TestApp, send};

pub fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn refused(app: &TestApp, token: &str, why: &str) {
    let session = Session { id: String::new(), access: token.to_owned(), refresh: String::new() };
    let answer = app.call(Method::GET, "/users/me", &session, None).await;
    let problem = answer.expect_problem(401, "invalid-token");
    assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn a_token_says_who_and_what_for_ten_minutes() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    let (header, claims) = (part(&session.access, 0), part(&session.access, 1));
    assert_eq!(header["alg"], "EdDSA");
    let keys = app.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(header["kid"], keys["keys"][0]["kid"]);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("postrider"), &json!("postrider")));
    assert_eq!((&claims["sub"], &claims["sid"]), (&json!(id), &json!(session.id)));
    assert_eq!((&claims["role"], &claims["verified"]), (&json!("customer"), &json!(false)));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);

    let token = app.verification_tokens(&id).await.remove(0);
    app.post(&format!("/email-verifications/{token}"), json!({})).await.expect(200);
    let renewed = Session::of(&app.renew(&session).await.expect(200));
    let renewed = part(&renewed.access, 1);
    assert_eq!(renewed["verified"], true);
    assert_ne!(renewed["jti"], claims["jti"]);
    app.close().await;
}

#[tokio::test]
async fn without_a_token_one_is_asked_for() {
    let app = TestApp::start().await;
    let answer = app.get("/users/me").await;
    answer.expect_problem(401, "unauthorized");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    send(app.request(Method::GET, "/users/me").basic_auth("ada", Some("x"))).await.expect_problem(401, "unauthorized");
    app.close().await;
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let token = app.login("ada@example.org").await.access;
    let (header, claims, signature) = (part(&token, 0), part(&token, 1), token.rsplit('.').next().unwrap());
    let mut operator = claims.clone();
    operator["role"] = json!("operator");

    for alg in ["none", "None", "NONE"] {
        let header = encoded(&json!({ "alg": alg, "typ": "JWT", "kid": header["kid"] }));
        refused(&app, &format!("{header}.{}.", encoded(&operator)), "is not EdDSA").await;
        refused(&app, &format!("{header}.{}.{signature}", encoded(&operator)), "is not EdDSA").await;
    }
    refused(&app, &format!("{}.{}.{signature}", encoded(&header), encoded(&operator)), "its signature is wrong").await;

    // The public key, which everybody has, as the secret of an HMAC.
    let keys = app.get("/.well-known/jwks.json").await.expect(200);
    let public = BASE64_URL_SAFE_NO_PAD.decode(keys["keys"][0]["x"].as_str().unwrap()).unwrap();
    let kid = header["kid"].as_str().map(str::to_owned);
    let confused = Header { kid: kid.clone(), ..Header::new(Algorithm::HS256) };
    let confused = jsonwebtoken::encode(&confused, &operator, &EncodingKey::from_secret(&public)).unwrap();
    refused(&app, &confused, "is not EdDSA").await;

    // Another key, under the name of the right one, under its own, and under none.
    let other = EncodingKey::from_ed_der(
        &[[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20].as_slice(), &[7; 32]].concat(),
    );
    for (kid, why) in
        [(kid, "its signature is wrong"), (Some("mine".to_owned()), "unknown key"), (None, "names no key")]
    {
        let header = Header { kid, ..Header::new(Algorithm::EdDSA) };
        refused(&app, &jsonwebtoken::encode(&header, &operator, &other).unwrap(), why).await;
    }
    for garbage in ["x", "a.b.c", &"a".repeat(4000), ".."] {
        refused(&app, garbage, "is not valid").await;
    }
    app.close().await;
}

#[tokio::test]
async fn tokens_that_are_old_or_for_others_are_refused_though_the_signature_is_right() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let token = app.login("ada@example.org").await.access;
    let claims = part(&token, 1);
    let private: Vec<u8> =
        sqlx::query_scalar("select private_key from signing_keys").fetch_one(&app.stage.database.pool).await.unwrap();
    let header = Header { kid: part(&token, 0)["kid"].as_str().map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
    let sign = |claims: &Value| jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&private)).unwrap();

    let session = Session { id: String::new(), access: sign(&claims), refresh: String::new() };
    assert_eq!(app.knows(&session).await, 200, "the key is the right one");
    for (claim, value, why) in [
        ("exp", json!(claims["iat"].as_i64().unwrap() - 60), "has expired"),
        ("iss", json!("somebody"), "another issuer"),
        ("aud", json!("something"), "another audience"),
        ("sid", json!("018f0000-0000-7000-8000-000000000000"), "session has ended"),
        ("sub", json!("018f0000-0000-7000-8000-000000000000"), "session has ended"),
    ] {
        let mut changed = claims.clone();
        changed[claim] = value;
        refused(&app, &sign(&changed), why).await;
        changed.as_object_mut().unwrap().remove(claim);
        refused(&app, &sign(&changed), "not valid").await;
    }
    app.close().await;
}
