//! The document says what the service does.

use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_described_with_its_inputs_outputs_and_failures() {
    let stand = Stand::open().await;
    let document = stand.client.get("/openapi.json", None).await.expect(200).clone();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    for (route, operation) in stand.documented() {
        if operation["tags"][0] == "operations" {
            continue;
        }
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{route}");
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses {
            let kind = if status.starts_with('2') { "application/json" } else { "application/problem+json" };
            assert!(response["content"][kind].is_object(), "{route} {status}");
        }
        let parameters = operation["parameters"].as_array().expect("parameters");
        for parameter in parameters {
            let name = &parameter["name"];
            assert!(parameter["description"].as_str().is_some_and(|text| !text.is_empty()), "{route} {name}");
            assert_eq!(parameter["required"], false, "{route} {name}");
        }
        let unknown = stand.get(&format!("{}?wanted=everything", route.trim_start_matches("get "))).await;
        unknown.expect_problem(400, "bad-request");
    }
    for view in ["Line", "Summary"] {
        let example = &document["components"]["schemas"][view]["example"];
        let properties = document["components"]["schemas"][view]["properties"].as_object().expect("properties");
        let shown = example.as_object().expect("an example");
        assert_eq!(shown.keys().collect::<Vec<_>>(), properties.keys().collect::<Vec<_>>(), "{view}");
    }
    stand.client.get("/docs/", None).await.expect(200);
    stand.close().await;
}
