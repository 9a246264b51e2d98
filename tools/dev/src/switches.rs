//! `cargo dev test --mutants`: proof that the tests of the guarantees can fail. Each runs with its guarantee switched off, and must fail.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{binaries, console, engines::Engines, test, test_summary::Counts, workspace};

/// The packages whose guarantees have switches. Each lists its pairs of switch and test in its `tests/switches.txt`.
const PACKAGES: [&str; 2] = ["messaging", "web"];
/// A test that waits for what will never happen need not wait as long as one that hopes.
const PATIENCE_SECONDS: &str = "15";

/// Runs every test with its switch. What is counted as passed is a test that failed.
pub(crate) async fn run(engines: &Engines) -> Result<(Counts, bool)> {
    console::heading("Tests of the guarantees, each without its guarantee");
    let mut counts = Counts::default();
    for package in PACKAGES {
        run_package(engines, package, &mut counts).await?;
    }
    Ok((counts, counts.failed == 0))
}

async fn run_package(engines: &Engines, package: &str, counts: &mut Counts) -> Result<()> {
    let pairs = read(&workspace::root()?.join("crates").join(package).join("tests/switches.txt"))?;
    let built = tests(engines, package)?.arg("--no-run").status().await.context("cannot run cargo")?;
    ensure!(built.success(), "the tests of {package} with their switches do not compile");
    for (switch, name) in pairs {
        let mut command = tests(engines, package)?;
        command.args(["--", "--exact", &name]).env("WITHOUT", &switch).env("TEST_PATIENCE_SECONDS", PATIENCE_SECONDS);
        let output =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.context("cannot run cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("test result: FAILED. 0 passed; 1 failed") {
            counts.passed += 1;
            console::row("caught", format_args!("{switch}: {name}"));
        } else if text.contains("test result: ok. 1 passed") {
            counts.failed += 1;
            console::row("NOT CAUGHT", format_args!("{switch}: {name}"));
        } else {
            bail!("{name} did not run with {switch}: is it still called so? {text}");
        }
    }
    Ok(())
}

fn tests(engines: &Engines, package: &str) -> Result<Command> {
    let mut command = binaries::cargo()?;
    command.args(["test", "--quiet", "--package", package, "--features", "failpoints/enabled", "--test", "it"]);
    test::environment(&mut command, engines);
    Ok(command)
}

/// A pair a line; what begins with `#` is for people.
fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            words.next().zip(words.next()).with_context(|| format!("not a switch and a test: {line}"))
        })
        .collect()
}
