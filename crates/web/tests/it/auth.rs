//! Only tokens that the users service signed for this system, and that have not expired, open a door.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};
use uuid::Uuid;
use web::{Readiness, auth::Verifier};

use crate::app::{Answer, App, options, send, start_with};

/// An Ed25519 key from a seed, as PKCS#8 (RFC 8410).
fn key(seed: u8) -> EncodingKey {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    EncodingKey::from_ed_der(&der)
}

fn public(seed: u8, kid: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(&key(seed), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    jwk
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({
        "iss": "postrider", "aud": "postrider", "sub": Uuid::from_u128(7), "sid": Uuid::from_u128(8), "jti": Uuid::from_u128(9),
        "role": "customer", "verified": true, "iat": now(), "exp": now() + 900,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn header(kid: &str) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) }
}

fn sign(claims: &Value) -> String {
    jsonwebtoken::encode(&header("one"), claims, &key(1)).unwrap()
}

fn start(verifier: Verifier) -> App {
    start_with(options(), Readiness::new(), move |config| {
        config.app_data(verifier.clone());
    })
}

fn start_knowing_key_one() -> App {
    start(Verifier::from_keys(&JwkSet { keys: vec![public(1, "one")] }))
}

async fn ask(app: &App, path: &str, token: &str) -> Answer {
    send(app.http.get(app.url(path)).bearer_auth(token)).await
}

#[tokio::test]
async fn a_good_token_says_who_is_asking() {
    let app = start_knowing_key_one();
    let answer = ask(&app, "/me", &sign(&claims())).await;
    assert_eq!((answer.status, answer.text), (200, Uuid::from_u128(7).to_string()));
}

#[tokio::test]
async fn no_token_is_401_with_a_challenge_and_no_error_code() {
    let app = start_knowing_key_one();
    let answer = app.get("/me").await;
    answer.problem(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"postrider\"");
    let other_scheme = send(app.http.get(app.url("/me")).basic_auth("a", Some("b"))).await;
    other_scheme.problem(401, "unauthorized");
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_401() {
    let app = start_knowing_key_one();
    let good = sign(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_claims = sign(&with("role", json!("operator")));
    let stolen_signature = format!("{}.{signature}", other_claims.rsplit_once('.').unwrap().0);
    // The public key is public: as the secret of a symmetric algorithm it must not count.
    let public_key_as_secret = EncodingKey::from_secret(&serde_json::to_vec(&public(1, "one")).unwrap());
    let symmetric = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    let none = "eyJhbGciOiJub25lIiwia2lkIjoib25lIn0";
    let cases = [
        ("no signature", format!("{signed}.")),
        ("no signature, algorithm none", format!("{none}.{}.", signed.split_once('.').unwrap().1)),
        ("algorithm none with a signature", format!("{none}.{}.{signature}", signed.split_once('.').unwrap().1)),
        ("symmetric", jsonwebtoken::encode(&symmetric, &claims(), &public_key_as_secret).unwrap()),
        ("other claims", stolen_signature),
        ("another key with the same id", jsonwebtoken::encode(&header("one"), &claims(), &key(2)).unwrap()),
        ("another key", jsonwebtoken::encode(&header("two"), &claims(), &key(2)).unwrap()),
        ("no key id", jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &key(1)).unwrap()),
        ("another issuer", sign(&with("iss", json!("someone")))),
        ("another audience", sign(&with("aud", json!("something")))),
        ("no audience", sign(&with("aud", Value::Null))),
        ("no expiry", sign(&with("exp", Value::Null))),
        ("not valid yet", sign(&with("nbf", json!(now() + 900)))),
        ("no account", sign(&with("sub", json!("me")))),
        ("unknown role", sign(&with("role", json!("god")))),
        ("no token at all", "good morning".to_owned()),
    ];
    for (case, token) in cases {
        let answer = ask(&app, "/me", &token).await;
        assert_eq!(answer.status, 401, "{case}: {}", answer.text);
        answer.problem(401, "invalid-token");
        assert!(answer.header("www-authenticate").contains(r#"error="invalid_token""#), "{case}");
    }
}

#[tokio::test]
async fn an_expired_token_is_401_and_says_so() {
    let app = start_knowing_key_one();
    let answer = ask(&app, "/me", &sign(&with("exp", json!(now() - 60)))).await;
    let problem = answer.problem(401, "invalid-token");
    assert!(problem["detail"].as_str().unwrap().contains("expired"), "{problem}");
    assert!(answer.header("www-authenticate").contains("expired"));
}

#[tokio::test]
async fn operator_routes_are_for_operators() {
    let app = start_knowing_key_one();
    ask(&app, "/operators", &sign(&claims())).await.problem(403, "forbidden");
    app.get("/operators").await.problem(401, "unauthorized");
    assert_eq!(ask(&app, "/operators", &sign(&with("role", json!("operator")))).await.status, 200);
}

#[tokio::test]
async fn fetching_the_keys_is_a_part_of_the_trace_of_the_request_that_needs_them() {
    let set = JwkSet { keys: vec![public(1, "one")] };
    let users = start_with(options(), Readiness::new(), move |config| {
        let set = set.clone();
        let answer = move || {
            let set = set.clone();
            async move { actix_web::HttpResponse::Ok().json(set) }
        };
        config.route("/.well-known/jwks.json", actix_web::web::get().to(answer));
    });
    let app = start(Verifier::from_jwks_url(users.url("/.well-known/jwks.json?secret=s3cr3t")));
    let answer = ask(&app, "/me", &sign(&claims())).await;
    let trace_id = answer.header("traceparent").split('-').nth(1).unwrap().to_owned();

    let found = || telemetry::testing::spans_of(&trace_id);
    let named = |name: &str| found().into_iter().find(|span| span.name == name);
    // The span of the request ends with the last byte of its answer, which may be after the client has it.
    while named("GET /me").is_none() || named("GET /.well-known/jwks.json").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (request, fetch, served) =
        (named("GET /me").unwrap(), named("GET").unwrap(), named("GET /.well-known/jwks.json").unwrap());
    assert_eq!(fetch.parent_span_id, request.span_context.span_id());
    assert_eq!(served.parent_span_id, fetch.span_context.span_id());
    assert_eq!(fetch.span_kind, opentelemetry::trace::SpanKind::Client);
    let attributes = format!("{:?}", fetch.attributes);
    for expected in ["http.request.method", "http.response.status_code", "server.address", "127.0.0.1", "server.port"] {
        assert!(attributes.contains(expected), "{expected} is missing in {attributes}");
    }
    assert!(!attributes.contains("s3cr3t"), "{attributes}");
}

#[tokio::test]
async fn keys_come_from_the_users_service_and_stay_when_it_goes() {
    let set = JwkSet { keys: vec![public(1, "one")] };
    let users = start_with(options(), Readiness::new(), move |config| {
        let set = set.clone();
        let answer = move || {
            let set = set.clone();
            async move { actix_web::HttpResponse::Ok().json(set) }
        };
        config.route("/.well-known/jwks.json", actix_web::web::get().to(answer));
    });
    let app = start(Verifier::from_jwks_url(users.url("/.well-known/jwks.json")));
    assert_eq!(ask(&app, "/me", &sign(&claims())).await.status, 200);

    users.stop.cancel();
    users.running.await.unwrap().unwrap();
    assert_eq!(ask(&app, "/me", &sign(&claims())).await.status, 200);
    let unknown = jsonwebtoken::encode(&header("two"), &claims(), &key(2)).unwrap();
    ask(&app, "/me", &unknown).await.problem(401, "invalid-token");
}

#[tokio::test]
async fn before_the_users_service_has_ever_answered_it_is_503_with_retry_after() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = start(Verifier::from_jwks_url(format!("http://{gone}/")));
    let answer = ask(&app, "/me", &sign(&claims())).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "5");
    ask(&app, "/me", "good morning").await.problem(401, "invalid-token");
}
