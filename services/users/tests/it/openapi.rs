//! The document says what the service does.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::TestApp;

const ROUTES: [&str; 18] = [
    "delete /sessions/current",
    "delete /sessions/{id}",
    "delete /users/me",
    "get /.well-known/jwks.json",
    "get /email-verifications/{token}",
    "get /password-resets/{token}",
    "get /users",
    "get /users/me",
    "patch /users/me",
    "post /email-verifications",
    "post /email-verifications/{token}",
    "post /password-resets",
    "post /password-resets/{token}",
    "post /sessions",
    "post /sessions/renewal",
    "post /users",
    "put /password-resets/{token}",
    "put /users/{id}/role",
];

#[tokio::test]
async fn every_route_is_documented_with_its_answers() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["tags"][0] == "operations" {
                continue;
            }
            routes.insert(format!("{method} {path}"));
            assert!(operation["summary"].as_str().unwrap().len() > 5, "{method} {path}");
            assert!(
                operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2')),
                "{method} {path}"
            );
            let needs_login = operation["responses"]["401"]["$ref"] == "#/components/responses/Unauthenticated";
            assert_eq!(needs_login, operation["security"][0]["bearer"].is_array(), "{method} {path}");
        }
    }
    assert_eq!(routes.iter().map(String::as_str).collect::<Vec<_>>(), ROUTES);
    app.close().await;
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_failure_has_an_example() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50, "{references:?}");
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    for (name, response) in document["components"]["responses"].as_object().unwrap() {
        let example = &response["content"]["application/problem+json"]["example"];
        assert!(example["type"].as_str().unwrap().starts_with("urn:postrider:problem:"), "{name}: {example}");
        assert!(example["status"].as_u64().unwrap() >= 400, "{name}");
    }
    app.get("/docs/").await.expect(200);
    app.close().await;
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
