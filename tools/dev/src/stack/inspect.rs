//! What tests see of a stack that people do not: logs, rows, messages on their way. It changes nothing that the services work with, apart from
//! a queue that listens.

use std::fs;

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::{Value, json};

use super::Stack;
use crate::{
    endpoint,
    http::Method,
    services::{SERVICES, Setting},
};

/// Gets a copy of every message.
const TAP: &str = "tap";
/// Messages that the broker is asked for at once.
const PAGE: usize = 500;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// The type of the event.
    pub event_type: String,
    /// Exchange, routing key, properties and headers, as JSON.
    pub envelope: Value,
    /// The content.
    pub payload: Vec<u8>,
}

impl Stack {
    /// The services of the shop.
    #[must_use]
    pub fn services() -> Vec<&'static str> {
        SERVICES.iter().map(|service| service.name).collect()
    }

    /// Gives a service another value of a setting, or its usual one again. It counts when the service is started the next time, which
    /// [`Stack::start_services`] does.
    pub fn change(&mut self, service: &str, name: &str, value: Option<&str>) {
        self.options.settings.retain(|setting| setting.service != service || setting.name != name);
        let setting =
            |value: &str| Setting { service: service.to_owned(), name: name.to_owned(), value: value.to_owned() };
        self.options.settings.extend(value.map(setting));
    }

    /// What the first process of a service has logged.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self, service: &str) -> Result<String> {
        let path = self.state.log(&crate::replicas::label(service, 0));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The logs of everything in the stack, by the name of the file.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn logs(&self) -> Result<Vec<(String, String)>> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(self.state.logs())? {
            let entry = entry?;
            let text = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            logs.push((entry.file_name().to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(logs)
    }

    /// Begins to listen: a copy of every message that is published from now on is kept.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn tap(&self) -> Result<()> {
        let rabbitmq = &self.engines.rabbitmq;
        let vhost = endpoint::encode(&rabbitmq.vhost);
        rabbitmq.open_vhost().await?;
        let queue = json!({ "durable": true, "arguments": {} });
        self.ask_broker(Method::PUT, &format!("/api/queues/{vhost}/{TAP}"), &queue).await?;
        let exchanges = rabbitmq.get(&format!("exchanges/{vhost}")).await?;
        let names = exchanges.as_array().into_iter().flatten().filter_map(|exchange| exchange["name"].as_str());
        for name in names.filter(|name| !name.is_empty() && !name.starts_with("amq.")) {
            let path = format!("/api/bindings/{vhost}/e/{}/q/{TAP}", endpoint::encode(name));
            self.ask_broker(Method::POST, &path, &json!({ "routing_key": "#", "arguments": {} })).await?;
        }
        Ok(())
    }

    /// The messages that were published since [`Stack::tap`], or since the last look.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn tapped(&self) -> Result<Vec<Tapped>> {
        let path = format!("/api/queues/{}/{TAP}/get", endpoint::encode(&self.engines.rabbitmq.vhost));
        let wanted = json!({ "count": PAGE, "ackmode": "ack_requeue_false", "encoding": "base64" });
        let mut all = Vec::new();
        loop {
            let page = self.ask_broker(Method::POST, &path, &wanted).await?;
            let page = page.as_array().cloned().unwrap_or_default();
            if page.is_empty() {
                return Ok(all);
            }
            for mut message in page {
                let payload = message["payload"].take();
                let payload = base64::engine::general_purpose::STANDARD.decode(payload.as_str().unwrap_or_default());
                let event_type = message["properties"]["type"].as_str().unwrap_or_default().to_owned();
                all.push(Tapped { event_type, envelope: message, payload: payload.context("base64")? });
            }
        }
    }

    async fn ask_broker(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let answer = self.engines.rabbitmq.ask(method, path, Some(body)).await?;
        let answer = answer.success().with_context(|| path.to_owned())?;
        if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
    }
}
