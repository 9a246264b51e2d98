//! The proxies before the engines of a stack that something is to be done to. They live in the process that does it, and what the services
//! say goes through them; whoever asks the engines as an administrator asks them themselves.

use anyhow::{Context, Result, ensure};
use wire::Proxy;

use super::Engines;
use crate::endpoint::Endpoint;

/// One before each engine.
pub(crate) struct Proxies {
    pub(crate) amqp: Proxy,
    pub(crate) postgres: Proxy,
}

impl Proxies {
    pub(crate) async fn before(engines: &Engines) -> Result<Self> {
        let (broker, database) = (&engines.rabbitmq.amqp, &engines.postgres.admin);
        let plain = broker.scheme == "amqp"
            && !["sslmode=require", "sslmode=verify"].iter().any(|tls| database.query.contains(tls));
        ensure!(plain, "what is said over TLS cannot be disturbed: name engines without it");
        Ok(Self {
            amqp: Proxy::amqp(&place(broker)).await.context("the proxy before the broker does not start")?,
            postgres: Proxy::postgres(&place(database))
                .await
                .context("the proxy before the database does not start")?,
        })
    }
}

fn place(engine: &Endpoint) -> String {
    format!("{}:{}", engine.host, engine.port)
}
