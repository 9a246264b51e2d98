//! Merges what the services say about their part of the topology into definitions that RabbitMQ imports: JSON in, JSON out. It
//! talks to no broker; `cargo dev` and deployments import the result.
//!
//! It is a program of its own so that `cargo dev`, which everybody builds first, needs nothing of the messaging crate.

use std::io::Write;

use anyhow::Context;
use messaging::topology::{self, Service};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The virtual host that everything is in.
    vhost: String,
    users: Vec<User>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    /// What the service's `topology` command printed.
    service: Service,
    /// The password that the service will use, in clear.
    password: String,
}

fn main() -> anyhow::Result<()> {
    let input: Input = serde_json::from_reader(std::io::stdin().lock())
        .context(r#"expected on standard input: { "vhost": "…", "users": [{ "service": {…}, "password": "…" }] }"#)?;
    let users: Vec<_> =
        input.users.iter().map(|user| topology::User { service: &user.service, password: &user.password }).collect();
    let definitions = topology::definitions(&input.vhost, &users);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &definitions).context("cannot write the definitions")?;
    writeln!(out).context("cannot write the definitions")
}
