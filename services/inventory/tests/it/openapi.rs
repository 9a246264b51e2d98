//! The document says what the service does.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn every_reference_leads_somewhere_and_every_failure_has_an_example() {
    let shop = Shop::open().await;
    let document = shop.client.get("/openapi.json", None).await.expect(200).clone();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50, "{references:?}");
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    for (name, response) in document["components"]["responses"].as_object().expect("responses") {
        let example = &response["content"]["application/problem+json"]["example"];
        assert!(example["type"].as_str().is_some_and(|kind| kind.starts_with("urn:postrider:problem:")), "{name}");
        assert!(example["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{name}: {example}");
        assert!(example["status"].as_u64() >= Some(400), "{name}");
        assert!(response["headers"]["traceparent"].is_object(), "{name}");
    }
    shop.client.get("/docs/", None).await.expect(200);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_described_with_its_inputs_outputs_and_failures() {
    let shop = Shop::open().await;
    let document = shop.client.get("/openapi.json", None).await.expect(200).clone();
    let mut names = BTreeSet::new();
    for (route, operation) in shop.documented() {
        assert!(names.insert(operation["operationId"].as_str().expect("a name")), "{route} has a name of its own");
        if operation["tags"][0] == "operations" {
            continue;
        }
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{route}");
        let responses = operation["responses"].as_object().expect("responses");
        let answers = |status: &str| responses.contains_key(status);
        for always in ["400", "408", "431", "500", "503"] {
            assert!(answers(always), "{route} {always}");
        }
        assert_eq!(answers("401"), operation["security"].is_array(), "{route}");
        let has_body = operation["requestBody"].is_object();
        for with_body in ["413", "415", "422"] {
            assert_eq!(answers(with_body), has_body, "{route} {with_body}");
        }
        if has_body {
            let content = &operation["requestBody"]["content"]["application/json"];
            let schema = resolve(&document, &content["schema"]);
            assert_eq!(schema["additionalProperties"], false, "{route} takes nothing else: {schema}");
            assert!(schema["example"].is_object(), "{route}: {schema}");
        }
        for (status, response) in responses {
            let response = resolve(&document, response);
            let kind = if status.starts_with('2') { "application/json" } else { "application/problem+json" };
            let without_body = status == "304";
            assert_eq!(response["content"][kind].is_object(), !without_body, "{route} {status}");
            assert!(response["headers"]["traceparent"].is_object(), "{route} {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = &parameter["name"];
            assert!(parameter["description"].as_str().is_some_and(|text| !text.is_empty()), "{route} {name}");
            assert_eq!(parameter["required"] == true, parameter["in"] == "path" || name == "Idempotency-Key", "{name}");
        }
    }
    shop.close().await;
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a reference"),
        None => value,
    }
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
