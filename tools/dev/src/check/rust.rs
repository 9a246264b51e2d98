//! Format, lints and documentation of the Rust code. Warnings are errors here, and only here.

use anyhow::Result;

use super::Verdict;
use crate::{binaries::cargo, console::Step, programs};

pub(super) async fn format(step: &mut Step) -> Result<Verdict> {
    let mut command = cargo()?;
    command.args(["fmt", "--all", "--", "--check", "--files-with-diff"]);
    let found = programs::watch(&mut command, step).await?;
    Ok(if found.success {
        Verdict::Passed("cargo fmt would change nothing".to_owned())
    } else {
        Verdict::Failed(format!("`cargo fmt` puts these right:\n{}", found.printed))
    })
}

pub(super) async fn lints(step: &mut Step) -> Result<Verdict> {
    let mut command = cargo()?;
    command.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]);
    Ok(Verdict::of(programs::watch(&mut command, step).await?, "clippy has nothing to say"))
}

pub(super) async fn documentation(step: &mut Step) -> Result<Verdict> {
    let mut command = cargo()?;
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "--deny warnings");
    Ok(Verdict::of(programs::watch(&mut command, step).await?, "rustdoc has nothing to say"))
}
