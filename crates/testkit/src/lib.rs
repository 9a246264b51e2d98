#![doc = include_str!("../README.md")]
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

mod actor;
mod client;
mod database;
mod proxy;
mod stage;
mod vhost;

use std::time::Duration;

pub use actor::{Actor, Heard, Playing};
pub use client::{Answer, Client};
pub use database::Database;
pub use proxy::AmqpProxy;
pub use reqwest::{Method, StatusCode};
pub use stage::Stage;
pub use vhost::{PASSWORD, Vhost};

/// How long something may take that must happen. Generous: it bounds a hang, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds. Panics, naming it, when it does not within 60 s (or `TEST_PATIENCE_SECONDS`).
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let patience = patience();
    let deadline = tokio::time::Instant::now() + patience;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long something may take that must happen: 60 s, or `TEST_PATIENCE_SECONDS`.
pub fn patience() -> Duration {
    env("TEST_PATIENCE_SECONDS").and_then(|s| s.parse().ok()).map_or(PATIENCE, Duration::from_secs)
}

/// Whether this test has a process for itself, as nextest gives one to each.
pub fn alone() -> bool {
    env("NEXTEST").is_some()
}

/// An engine's address.
fn engine(name: &str) -> String {
    env(name).unwrap_or_else(|| panic!("{name} is not set: run the tests with `cargo dev test`"))
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration of their own")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A name that tells which process it belongs to.
fn fresh_name() -> String {
    format!("test_{}_{}", std::process::id(), &uuid::Uuid::new_v4().simple().to_string()[..12])
}

/// Whether the process that made something is gone, and it can be swept up.
fn orphaned(name: &str) -> bool {
    name.strip_prefix("test_")
        .and_then(|rest| rest.split('_').next())
        .and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
}
