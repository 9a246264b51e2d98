//! The access log: a request to any service becomes a line, found by its trace, without what identifies a person.

use dev::{http, stack::Stack};
use serde_json::Value;

use crate::eventually;

const SERVICES: [&str; 6] = ["access-log", "inventory", "notifications", "orders", "payments", "users"];

pub(crate) async fn all(stack: &Stack) {
    let operator = stack.shop().operator().await.unwrap();
    let port = stack.port("access-log").unwrap();
    let ask = async |path: &str| -> Value {
        http::get_as(port, path, &operator.token).await.unwrap().success().unwrap().json().unwrap()
    };
    for service in SERVICES {
        let path = "/people/ada@example.test?password=hunter2";
        let answer = http::get(stack.port(service).unwrap(), path).await.unwrap();
        let trace = answer.trace_id().unwrap();
        let lines = format!("/access-logs?trace_id={trace}");
        let line = eventually(&format!("the line of {service}"), async || ask(&lines).await.get(0).cloned()).await;
        assert_eq!(
            (&line["service"], &line["route"], &line["status"]),
            (&service.into(), &"unmatched".into(), &404.into())
        );
        assert_eq!(line["client_network"], "127.0.0.0/24");
        assert!(!line.to_string().contains("ada@") && !line.to_string().contains("hunter2"), "{line}");
    }
    // What the parts before have asked is there, too, under its pattern.
    let summary = ask("/access-logs/summary").await;
    let routes = summary["routes"].as_array().unwrap();
    let mut services: Vec<_> = routes.iter().map(|route| route["service"].as_str().unwrap()).collect();
    services.dedup();
    assert_eq!(services, SERVICES, "{summary}");
    let placing = routes.iter().find(|route| route["route"] == "/orders" && route["method"] == "POST").unwrap();
    assert!(placing["requests"].as_i64() > Some(0) && placing["p99_ms"].as_f64() > Some(0.0), "{placing}");
    assert!(routes.iter().all(|route| route["route"] != "/readyz" && route["route"] != "/metrics"), "{summary}");
}
