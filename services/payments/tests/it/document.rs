//! The OpenAPI document: complete, and true of what the service answers.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::Value;
use testkit::Answer;

use crate::shop::Shop;

pub struct Document(Value);

impl Document {
    pub async fn of(shop: &Shop) -> Self {
        Self(shop.get("/openapi.json", None).await.expect(200).clone())
    }

    fn operations(&self) -> impl Iterator<Item = (String, &Value)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let operations = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
        });
        operations.filter(|(_, operation)| operation["tags"][0] != "operations")
    }

    /// The service's own routes.
    pub fn routes(&self) -> BTreeSet<String> {
        self.operations().map(|(route, _)| route).collect()
    }

    /// Fails unless the document promises this answer: status, headers, media type, and the shape of the body.
    pub fn check(&self, method: &str, path: &str, answer: &Answer) {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        let context = format!("{method} {path}: {} {}", answer.status, answer.text);
        let promised = self.resolve(&operation["responses"][answer.status.as_str()]);
        assert!(promised.is_object(), "{context}");
        for name in promised["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(answer.headers.contains_key(name.to_lowercase()), "without {name}: {context}");
        }
        let Some(content) = promised["content"].as_object() else {
            assert!(answer.status == StatusCode::NOT_MODIFIED && answer.text.is_empty(), "{context}");
            return;
        };
        let (media_type, content) = content.iter().next().expect("a media type");
        assert_eq!(answer.header("content-type"), media_type, "{context}");
        self.check_value(&content["schema"], &answer.json, &context);
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str();
        reference.map_or(value, |reference| self.0.pointer(reference.trim_start_matches('#')).expect("a reference"))
    }

    /// As much of JSON Schema as this document uses.
    fn check_value(&self, schema: &Value, value: &Value, context: &str) {
        let schema = self.resolve(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            // Here: an enum, each of whose values is described.
            assert!(
                choices.iter().any(|choice| self.resolve(choice)["enum"].as_array().is_some_and(|e| e.contains(value))),
                "{context}"
            );
            return;
        }
        match schema["type"].as_str() {
            Some("object") => {
                let (members, known) = (value.as_object().expect(context), schema["properties"].as_object());
                for name in schema["required"].as_array().into_iter().flatten() {
                    assert!(members.contains_key(name.as_str().expect("a name")), "{name}: {context}");
                }
                for (name, member) in members {
                    let property = known.and_then(|known| known.get(name));
                    self.check_value(property.unwrap_or_else(|| panic!("{name}: {context}")), member, context);
                }
            }
            Some("array") => value
                .as_array()
                .expect(context)
                .iter()
                .for_each(|item| self.check_value(&schema["items"], item, context)),
            Some("integer") => assert!(
                value.is_i64() && value.as_i64() >= schema["minimum"].as_i64().or(Some(i64::MIN)),
                "{value}: {context}"
            ),
            Some("string") => {
                let text = value.as_str().unwrap_or_else(|| panic!("{value}: {context}"));
                let allowed = schema["enum"].as_array();
                assert!(allowed.is_none_or(|allowed| allowed.contains(value)), "{value}: {context}");
                let chars = text.chars().count() as u64;
                assert!(chars >= schema["minLength"].as_u64().unwrap_or(0), "{value}: {context}");
                assert!(chars <= schema["maxLength"].as_u64().unwrap_or(u64::MAX), "{value}: {context}");
            }
            _ => assert!(schema["type"].is_array(), "an unknown schema {schema} for {value}: {context}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_complete() {
    let shop = Shop::open().await;
    let document = Document::of(&shop).await;
    assert!(document.0["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for (route, operation) in document.operations() {
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{route}");
        assert!(operation["security"][0]["bearer"].is_array(), "{route}");
        let parameters = operation["parameters"].as_array().expect("parameters");
        let named: BTreeSet<_> = parameters.iter().map(|p| (p["in"].as_str(), p["name"].as_str())).collect();
        assert_eq!(named.len(), parameters.len(), "{route}: a parameter is there twice");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let response = document.resolve(response);
            assert!(response["headers"]["traceparent"].is_object(), "{route} {status}");
            if status.starts_with(['4', '5']) {
                let example = &response["content"]["application/problem+json"]["example"];
                assert_eq!(example["status"].to_string(), *status, "{route}");
                assert!(example["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{route} {status}");
                document.check_value(&response["content"]["application/problem+json"]["schema"], example, &route);
            }
        }
    }
    let mut references = Vec::new();
    collect(&document.0, &mut references);
    for reference in references {
        assert!(document.0.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    let payment = &document.0["components"]["schemas"]["Payment"];
    document.check_value(payment, &payment["example"], "the example");
    shop.close().await;
}

fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
