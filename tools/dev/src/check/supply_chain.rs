//! Licences, sources and duplicates of everything that is built in: cargo-deny with `deny.toml`.

use std::path::Path;

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::Verdict;
use crate::{binaries::cargo, console::Step, programs};

const VERSION: &str = "0.20.2";

pub(super) async fn check(root: &Path, step: &mut Step) -> Result<Verdict> {
    let program = root.join(".dev/tools/bin/cargo-deny");
    if !is_installed(&program).await {
        step.note("installing cargo-deny, once; this takes some minutes");
        let mut install = cargo()?;
        // Not optimized: it runs for seconds, and is built in a third of the time.
        install.args(["install", "--locked", "--quiet", "--debug", "--root"]).arg(root.join(".dev/tools"));
        install.arg(format!("cargo-deny@{VERSION}"));
        let done = programs::watch(&mut install, step).await?;
        ensure!(done.success, "cargo-deny {VERSION} cannot be installed:\n{}", done.printed);
    }
    let mut command = Command::new(program);
    command.current_dir(root).args(["--workspace", "check", "bans", "licenses", "sources"]);
    Ok(Verdict::of(
        programs::watch(&mut command, step).await?,
        "bans, licences and sources are as deny.toml wants them",
    ))
}

/// The database of advisories is a git repository of its own, which many build machines cannot reach.
pub(super) fn advisories() -> Verdict {
    Verdict::Skipped("they need the network; `.dev/tools/bin/cargo-deny check advisories` asks for them".to_owned())
}

async fn is_installed(program: &Path) -> bool {
    let printed = programs::output(Command::new(program).arg("--version")).await;
    printed.is_ok_and(|printed| printed.trim().ends_with(VERSION))
}
