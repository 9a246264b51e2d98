//! A virtual host for one test, with the topology of the services in it.

use messaging::topology::{self, Management, Service, User};
use serde_json::{Value, json};

use crate::{engine, fresh_name, orphaned};

/// The password of every service's broker user in tests.
pub const PASSWORD: &str = "only-for-tests";

/// A fresh virtual host.
#[derive(Clone, Debug)]
pub struct Vhost {
    /// Its name.
    pub name: String,
    /// As administrator.
    pub amqp_url: String,
    /// As administrator.
    pub management_url: String,
    services: Vec<Service>,
}

impl Vhost {
    /// Makes a virtual host and imports the topology of these services, their users and permissions included.
    pub async fn create(services: &[Service]) -> Self {
        let management_url = engine("TEST_RABBITMQ_MANAGEMENT_URL");
        let name = fresh_name();
        let amqp_url = with_vhost(&engine("TEST_AMQP_URL"), &name, None);
        let vhost = Self { name, amqp_url, management_url, services: services.to_vec() };
        vhost.sweep().await;
        vhost.call(reqwest::Method::PUT, &format!("vhosts/{}", vhost.name), None).await;
        let admin =
            vhost.amqp_url.split("//").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or("guest").to_owned();
        let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        vhost.call(reqwest::Method::PUT, &format!("permissions/{}/{admin}", vhost.name), Some(everything)).await;
        vhost.import().await;
        vhost
    }

    /// Imports the topology, again: what is there stays as it is.
    pub async fn import(&self) {
        let users: Vec<_> = self.services.iter().map(|service| User { service, password: PASSWORD }).collect();
        let definitions = topology::definitions(&self.name, &users);
        // Another test may be making the same users, which the broker tells one of the two.
        for _ in 0..10 {
            let request = self.request(reqwest::Method::POST, "definitions").json(&definitions);
            let response = request.send().await.expect("the management API answers");
            let status = response.status();
            let text = response.text().await.unwrap_or_default();
            if !text.contains("user_already_exists") {
                assert!(status.is_success(), "the definitions are not taken: {status} {text}");
                return;
            }
        }
        panic!("the users of the services could not be made beside others");
    }

    /// The address as a service's own user, with its few rights.
    pub fn url_for(&self, service: &str) -> String {
        with_vhost(&engine("TEST_AMQP_URL"), &self.name, Some(service))
    }

    /// The management API as a service's own user.
    pub fn management_for(&self, service: &str) -> Management {
        let (scheme, rest) = self.management_url.split_once("//").expect("a management address");
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        Management { url: format!("{scheme}//{service}:{PASSWORD}@{host}"), vhost: self.name.clone() }
    }

    /// Deletes a queue, as an operator's mistake would.
    pub async fn delete_queue(&self, queue: &str) {
        self.call(reqwest::Method::DELETE, &format!("queues/{}/{queue}", self.name), None).await;
    }

    /// Removes the bindings of a queue that have this routing key.
    pub async fn unbind(&self, queue: &str, routing_key: &str) {
        let path = format!("bindings/{}/e/{}/q/{queue}/{routing_key}", self.name, topology::EVENTS_EXCHANGE);
        self.call(reqwest::Method::DELETE, &path, None).await;
    }

    /// Sets a policy on a queue that overrules the generated one.
    pub async fn set_policy(&self, queue: &str, definition: Value) {
        let policy =
            json!({ "pattern": format!("^{queue}$"), "priority": 9, "apply-to": "queues", "definition": definition });
        self.call(reqwest::Method::PUT, &format!("policies/{}/test", self.name), Some(policy)).await;
    }

    /// Takes that policy back.
    pub async fn clear_policy(&self) {
        self.call(reqwest::Method::DELETE, &format!("policies/{}/test", self.name), None).await;
    }

    /// Takes the right to publish from a service's user, until [`Vhost::import`].
    pub async fn forbid_publishing(&self, service: &str) {
        let rights = json!({ "configure": "", "write": "", "read": ".*" });
        self.call(reqwest::Method::PUT, &format!("permissions/{}/{service}", self.name), Some(rights)).await;
    }

    /// Kills every connection to this virtual host. Returns how many there were.
    pub async fn kill_connections(&self) -> usize {
        let connections = self.get(&format!("vhosts/{}/connections", self.name)).await;
        let names: Vec<_> = connections.as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
        for name in &names {
            let path = format!("connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
            let request = self.request(reqwest::Method::DELETE, &path);
            // It may be gone by itself.
            let _ = request.header("X-Reason", "a test").send().await;
        }
        names.len()
    }

    /// What the management API says of a path below `/api/`.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.request(reqwest::Method::GET, path).send().await.expect("the management API answers");
        response.json().await.expect("the management API speaks JSON")
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("the management API answers");
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        // Another part may have chosen a provider before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::new().request(method, format!("{}/api/{path}", self.management_url.trim_end_matches('/')))
    }

    async fn sweep(&self) {
        let vhosts = self.get("vhosts?columns=name").await;
        let names = vhosts.as_array().into_iter().flatten().filter_map(|vhost| vhost["name"].as_str());
        for name in names.filter(|name| orphaned(name)).take(4) {
            // Another test may sweep the same one.
            let _ = self.request(reqwest::Method::DELETE, &format!("vhosts/{name}")).send().await;
        }
    }
}

/// `amqp://user:password@host:port/vhost`.
fn with_vhost(url: &str, vhost: &str, user: Option<&str>) -> String {
    let (scheme, rest) = url.split_once("//").expect("an AMQP address");
    let authority = rest.split('/').next().unwrap_or(rest);
    match user {
        None => format!("{scheme}//{authority}/{vhost}"),
        Some(user) => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}//{user}:{PASSWORD}@{host}/{vhost}")
        }
    }
}
