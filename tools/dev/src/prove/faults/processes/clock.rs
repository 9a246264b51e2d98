//! Clocks that are wrong, by a library that is loaded in front of the system's. The clock that only measures durations stays as it is, as on
//! a machine whose time is set.

use std::path::PathBuf;

use anyhow::{Context, Result};
use proof::ledger::Evidence;

use super::{HEAL_PATIENCE, Open, Undo};
use crate::{http, install, shop::eventually, stack::Stack};

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
/// A clock that differs by so much is wrong, and not merely late.
const WRONG_BY_SECONDS: i64 = 30 * 60;

async fn library() -> Result<PathBuf> {
    let there = || LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists());
    if there().is_none() {
        let how = "clocks are set with libfaketime (Debian: sudo apt-get install faketime)";
        install::packages(&["faketime"], how).await?;
    }
    there().context("libfaketime is not where it should be")
}

/// Starts every process of a service again, an hour ahead or behind.
pub(super) async fn set_wrong(stack: &mut Stack, service: &'static str, ahead: bool) -> Result<Open> {
    let library = library().await?;
    stack.set(service, "LD_PRELOAD", &library.display().to_string());
    stack.set(service, "FAKETIME", if ahead { "+1h" } else { "-1h" });
    stack.set(service, "FAKETIME_DONT_FAKE_MONOTONIC", "1");
    stack.start_service(service).await?;
    Ok(Open::new(0, String::new(), Undo::RightClock(service)))
}

/// Starts them again with a right clock; how wrong it was, by what they said themselves.
pub(super) async fn set_right(stack: &mut Stack, service: &'static str) -> Result<Evidence> {
    let port = stack.port(service)?;
    let wrong = eventually("a service with a wrong clock to answer", HEAL_PATIENCE, async || {
        let Ok(answer) = http::get(port, "/livez").await else { return Ok(None) };
        let date = chrono::DateTime::parse_from_rfc2822(answer.header("date")).context("the time of an answer")?;
        Ok(Some(date.signed_duration_since(chrono::Utc::now()).num_seconds()))
    })
    .await?;
    for name in ["LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"] {
        stack.unset(service, name);
    }
    stack.start_service(service).await?;
    let minutes = wrong / 60;
    Ok(Evidence {
        count: (wrong.abs() > WRONG_BY_SECONDS).into(),
        text: format!("its clock was wrong by {minutes} minutes"),
    })
}
