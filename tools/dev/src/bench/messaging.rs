//! Builds the program that measures messaging, runs it on engines of its own, and reads what it wrote.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use measure::{Measurement, Report};
use tokio::process::Command;

use super::BenchArgs;
use crate::{
    binaries, console,
    stack::Stack,
    test::{environment, with_engines},
};

const STACK: &str = "bench-engines";
const PROGRAM: &str = "bench";
/// What the program finds out about the engines.
const ENGINES: &str = "engines.json";

/// Measures these, or what is usual, and adds what came of it.
pub(super) async fn run(args: &BenchArgs, names: &[String], folder: &Path, all: &mut Report) -> Result<()> {
    let program = binaries::build_alone(PROGRAM, args.profile()).await?;
    let out = folder.join("messaging");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot delete {}", out.display()))?;
    }
    // An earlier one may have been killed, and left its engines in whatever state.
    Stack::purge(STACK).await?;
    let ended = with_engines(STACK, args.engines.clone(), false, async |engines| {
        console::heading("Measuring messaging");
        let mut command = Command::new(&program);
        command.args(names).arg("--out").arg(&out).args(args.quick.then_some("--quick"));
        command.args(["--pairs", &args.pairs.to_string(), "--rows", &args.rows.to_string()]);
        environment(&mut command, engines).kill_on_drop(true).status().await.context("cannot run the program")
    })
    .await?;
    for entry in fs::read_dir(&out).into_iter().flatten() {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if path.file_name().is_some_and(|name| name == ENGINES) {
            all.machine.facts.extend(serde_json::from_slice::<std::collections::BTreeMap<String, String>>(&text)?);
        } else {
            all.measurements.push(serde_json::from_slice::<Measurement>(&text)?);
        }
    }
    all.measurements.sort_by(|one, other| one.scenario.cmp(&other.scenario));
    // One that is wrong was measured all the same, and the report says so.
    ensure!(ended.success() || !all.is_correct(), "the program that measures messaging failed; it says why above");
    Ok(())
}
