//! `cargo dev bench`: what things cost, in release builds, each measured in turn with the least program that does the same. Absolute times are
//! this machine's; ratios of one run are what to quote.
//!
//! What concerns messaging alone is measured by a program of its own (`tools/bench`), on engines that are started for it; what needs the
//! whole shop is measured from here. All of it ends on one page.

mod arrivals;
mod floor;
#[cfg(test)]
mod limits;
mod load;
mod memory;
mod messaging;
mod orders;
mod overload;
mod pgbench;
mod receiver;
mod saga;
mod telemetry;

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use clap::Args;
use measure::{Machine, Measurement, Report, Scenario, When, report};
use tokio::process::Command;

use crate::{
    binaries::{self, Profile},
    console,
    engines::Given,
    programs, workspace,
};

/// As many rounds at most, where it has to be quick.
const QUICK_ROUNDS: u16 = 2;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// What: relay, commit, consume, latency, hot-key, recovery, mail, saga, orders, memory, peers; growth, telemetry and overload only if they are named.
    what: Vec<String>,
    /// Smaller and fewer, in a few minutes, and without what needs the whole shop or is to be installed unless it is named: to see whether something has changed much.
    #[arg(long)]
    quick: bool,
    /// How often each of two sides is measured, in turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pairs: u16,
    /// Do not optimize, to see that a bench works; its figures are worth nothing.
    #[arg(long)]
    unoptimized: bool,
    /// How far `growth` lets journal and inbox grow.
    #[arg(long, default_value_t = 20_000_000)]
    rows: i64,
    #[command(flatten)]
    engines: Given,
}

impl BenchArgs {
    fn profile(&self) -> Profile {
        if self.unoptimized { Profile::Dev } else { Profile::Release }
    }

    fn rounds(&self) -> usize {
        usize::from(if self.quick { self.pairs.min(QUICK_ROUNDS) } else { self.pairs })
    }
}

/// What is measured from here: it needs the whole shop.
const SCENARIOS: &[Scenario<BenchArgs, anyhow::Error>] = &[
    Scenario {
        name: "saga",
        says: "orders to their confirmation, beside the same statements and messages alone",
        when: When::NotQuick,
        measure: |args| Box::pin(saga::measure(args)),
    },
    Scenario {
        name: "orders",
        says: "POST /orders when more come than can be taken, beside the statements of one by pgbench",
        when: When::NotQuick,
        measure: |args| Box::pin(orders::measure(args)),
    },
    Scenario {
        name: "memory",
        says: "memory of each service, idle and at most, and its start, beside what is allowed",
        when: When::NotQuick,
        measure: |args| Box::pin(memory::measure(args)),
    },
    Scenario {
        name: "telemetry",
        says: "the whole shop with traces, beside without; and with a silent collector",
        // What it measures changes rarely.
        when: When::Named,
        measure: |args| Box::pin(telemetry::measure(args)),
    },
    Scenario {
        name: "overload",
        says: "orders at up to ten times of what can be taken, beside the peak; with limits and without",
        // One run of some minutes, whatever `--quick` and `--pairs` say.
        when: When::Named,
        measure: |args| Box::pin(overload::measure(args)),
    },
];

/// Measures what is named, or what is usual. Whether everything was right; an aim that is missed is said, and no failure.
pub(crate) async fn run(args: BenchArgs) -> Result<bool> {
    let of_shop: Vec<_> = SCENARIOS.iter().filter(|scenario| scenario.is_wanted(&args.what, args.quick)).collect();
    if cfg!(debug_assertions) && !args.unoptimized && !of_shop.is_empty() {
        // Whoever sends the orders shares the processors with those who take them.
        return binaries::run_again(args.profile()).await;
    }
    let folder = workspace::root()?.join("target/bench");
    let mut all = Report { command: command(&args), machine: Machine::look(), measurements: Vec::new() };
    if let Some(load) = all.machine.is_busy() {
        console::row(
            "machine",
            format_args!("is busy with something else (load {load}): the figures will be worth less"),
        );
    }
    let commit = programs::output(Command::new("git").args(["describe", "--always", "--dirty"])).await;
    all.machine.add("commit", commit.unwrap_or_default().trim());
    let elsewhere = |name: &&String| SCENARIOS.iter().all(|scenario| scenario.name != name.as_str());
    let of_messaging: Vec<_> = args.what.iter().filter(elsewhere).cloned().collect();
    if args.what.is_empty() || !of_messaging.is_empty() {
        messaging::run(&args, &of_messaging, &folder, &mut all).await?;
    }
    for scenario in of_shop {
        let begin = Instant::now();
        let mut measurement =
            (scenario.measure)(&args).await.with_context(|| format!("measuring {}", scenario.name))?;
        measurement.seconds = begin.elapsed().as_secs_f64();
        all.measurements.push(measurement);
    }
    show(&all.measurements);
    write(&folder, &all)?;
    Ok(all.is_correct())
}

fn command(args: &BenchArgs) -> String {
    let mut words = vec!["cargo dev bench".to_owned()];
    words.extend(args.what.iter().cloned());
    words.extend(args.quick.then(|| "--quick".to_owned()));
    words.extend(args.unoptimized.then(|| "--unoptimized".to_owned()));
    words.push(format!("--pairs {}", args.pairs));
    words.join(" ")
}

fn show(measurements: &[Measurement]) {
    console::heading("Beside the limits");
    for measurement in measurements {
        for one in &measurement.comparisons {
            let text = format!("{}: {}, aim {} {}", one.what, one.ratio, one.aim, one.outcome());
            console::row(&measurement.scenario, text);
        }
        for check in measurement.checks.iter().filter(|check| !check.holds()) {
            console::row(&measurement.scenario, format!("WRONG: {}: {}", check.says, check.violations.join("; ")));
        }
    }
}

/// `results.json` for programs and `index.html` for people.
fn write(folder: &Path, all: &Report) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    write("results.json", &serde_json::to_string_pretty(all)?)?;
    let page = write("index.html", &report(all))?;
    console::row("verdict", all.summary());
    console::row("page", page.display());
    Ok(())
}
