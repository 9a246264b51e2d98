//! `cargo dev test`: every test, on engines of its own, with one closing line that sums up what the runners counted.

use std::{
    io::{IsTerminal, Write},
    process::Stdio,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{
    binaries, console,
    engines::{self, Engines, Given},
    fuzz, install, programs,
    state::State,
    switches,
    test_summary::{Counts, Runner},
};

const STACK: &str = "test";
/// What the pages are tested in: programs, and the packages that have them. Without a font, nothing can be seen.
const BROWSER: [&str; 2] = ["chromium", "chromedriver"];
const BROWSER_PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "fonts-dejavu-core"];

/// What is run.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    /// The tests, with what is passed on to their runner; and, if wanted, the requests of [`fuzz`].
    Tests { runner: &'a [String], fuzz: bool },
    /// The tests of the guarantees, each with its guarantee switched off.
    Switches,
    /// Generated requests to a stack of its own.
    Fuzz,
}

pub(crate) async fn run(given: Given, keep: bool, what: What<'_>) -> Result<bool> {
    let (counts, success) = match what {
        What::Tests { runner, fuzz } => {
            let (mut counts, mut success) =
                with_engines(STACK, given.clone(), keep, async |engines| run_all(engines, runner).await).await?;
            if fuzz {
                let (found, fine) = fuzz::run(given).await?;
                counts += found;
                success &= fine;
            }
            (counts, success)
        }
        What::Switches => with_engines(STACK, given, keep, async |engines| switches::run(engines).await).await?,
        What::Fuzz => fuzz::run(given).await?,
    };
    if counts.failed == 0 && !success {
        console::line("\nA runner ended with an error that is no failed test; it says above which.");
    }
    console::line(format_args!("\n{counts}"));
    Ok(success && counts.failed == 0)
}

/// Starts the engines of a stack, does something with them, and stops them whatever came of it.
pub(crate) async fn with_engines<T>(
    stack: &str,
    given: Given,
    keep: bool,
    work: impl AsyncFnOnce(&Engines) -> Result<T>,
) -> Result<T> {
    // Ctrl-C ends the work; the engines are still to be stopped.
    let _interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    // Engines of another kind are beside the usual ones, not in their place.
    let name = given.choice.name(stack);
    let _lock = crate::stack::lock(&name)?;
    console::line(console::bold("Starting engines"));
    let mut state = State::load_or_create(&name)?;
    let result = match engines::start(&mut state, &given).await {
        Ok(engines) => work(&engines).await,
        Err(error) => Err(error),
    };
    if keep {
        console::line(format_args!("\nThe engines go on running; `cargo dev down --name {name}` stops them."));
    } else {
        console::heading("Stopping the engines");
        engines::stop(&mut state, false).await?;
    }
    result
}

/// What was counted, and whether every runner ended well.
async fn run_all(engines: &Engines, arguments: &[String]) -> Result<(Counts, bool)> {
    let mut counts = Counts::default();
    let nextest = programs::is_there("cargo", &["nextest", "--version"]).await;
    let runner = if nextest { Runner::Nextest } else { Runner::Cargo };
    let mut command = binaries::cargo()?;
    command.args(if nextest { ["nextest", "run"].as_slice() } else { &["test"] });
    if wants_browser(arguments) {
        look_for_browser().await;
    }
    // Naming packages takes the place of all of them.
    let packages = arguments.iter().any(|argument| argument == "-p" || argument.starts_with("--package"));
    if !packages {
        command.arg("--workspace").args(binaries::TESTED);
    }
    command.args(["--no-fail-fast"]).args(if nextest { None } else { Some("--all-targets") }).args(arguments);
    console::heading(if nextest { "Tests (cargo nextest)" } else { "Tests (cargo test)" });
    let mut success = count(environment(&mut command, engines), runner, &mut counts).await?;
    if arguments.is_empty() {
        console::heading("Examples in the documentation");
        let mut command = binaries::cargo()?;
        command.args(["test", "--doc", "--workspace", "--no-fail-fast"]).args(binaries::TESTED);
        success &= count(environment(&mut command, engines), Runner::Cargo, &mut counts).await?;
    }
    Ok((counts, success))
}

/// Whether the tests of this program are among those that are run.
fn wants_browser(arguments: &[String]) -> bool {
    let mut named = Vec::new();
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "-p" | "--package" => named.extend(rest.next()),
            _ => named.extend(argument.strip_prefix("--package=").or_else(|| argument.strip_prefix("-p"))),
        }
    }
    named.is_empty() || named.contains(&"dev")
}

/// Installs a browser where this may. Elsewhere its test says that it is skipped, and this says how it would not be.
async fn look_for_browser() {
    for program in BROWSER {
        if programs::is_there(program, &["--version"]).await {
            continue;
        }
        let explanation =
            "none is installed, so that the pages are not tested in one (Debian: chromium and chromium-driver)";
        if let Err(error) = install::packages(&BROWSER_PACKAGES, explanation).await {
            console::row("browser", format_args!("{error:#}"));
        }
        return;
    }
}

pub(crate) fn environment<'a>(command: &'a mut Command, engines: &Engines) -> &'a mut Command {
    command
        .env("TEST_DATABASE_URL", engines.postgres.admin.with_password())
        .env("TEST_AMQP_URL", engines.rabbitmq.amqp.with_password())
        .env("TEST_RABBITMQ_MANAGEMENT_URL", engines.rabbitmq.management.with_password());
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// Runs a runner, shows what it prints, and adds up its closing lines.
async fn count(command: &mut Command, runner: Runner, counts: &mut Counts) -> Result<bool> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot run cargo")?;
    let out = child.stdout.take().context("stdout is piped")?;
    let err = child.stderr.take().context("stderr is piped")?;
    let (from_out, from_err) =
        tokio::try_join!(pass_on(runner, out, std::io::stdout()), pass_on(runner, err, std::io::stderr()))?;
    *counts += from_out;
    *counts += from_err;
    Ok(child.wait().await?.success())
}

async fn pass_on(runner: Runner, from: impl AsyncRead + Unpin, mut to: impl Write) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut lines = BufReader::new(from).split(b'\n');
    while let Some(mut line) = lines.next_segment().await? {
        if let Some(closing) = runner.closing_line(&String::from_utf8_lossy(&line)) {
            counts += closing;
        }
        line.push(b'\n');
        // Nobody reading is no reason to stop counting.
        let _ = to.write_all(&line);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_wanted_for_this_package_and_for_all_of_them() {
        let wants = |arguments: &[&str]| {
            wants_browser(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
        };
        for arguments in
            [&[] as &[_], &["--retries", "2"], &["-p", "users", "-p", "dev"], &["--package=dev"], &["-pdev"]]
        {
            assert!(wants(arguments), "{arguments:?}");
        }
        for arguments in [&["-p", "users"] as &[_], &["--package", "orders"], &["--package=web"]] {
            assert!(!wants(arguments), "{arguments:?}");
        }
    }
}
