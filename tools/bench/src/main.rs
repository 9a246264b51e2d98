//! Measures the messaging crate on engines that are given (`TEST_DATABASE_URL` and its kin, as for tests): each scenario beside its limit.
//! `cargo dev bench` starts engines, runs this and draws the page. Where nothing is named, everything is measured but what takes hours.

mod checks;
mod limit;
mod load;
mod ours;
mod queue;
mod scenarios;
mod scene;
mod smtp;

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use measure::Measurement;

use scenarios::SCENARIOS;

/// Measures the messaging crate beside its limits.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Plan {
    #[command(subcommand)]
    limit: Option<Limit>,
    /// What; the usual ones if nothing is named.
    scenarios: Vec<String>,
    /// Says what there is, and measures nothing.
    #[arg(long)]
    list: bool,
    /// Smaller and fewer: to see whether something has changed much.
    #[arg(long)]
    quick: bool,
    /// How often each side is measured; less where one round takes long.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pairs: u16,
    /// How far `growth` lets the journal and the inbox grow.
    #[arg(long, default_value_t = 20_000_000)]
    rows: i64,
    /// The folder for the results, `<scenario>.json` each.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

/// A limit of something that is measured elsewhere.
#[derive(Subcommand)]
enum Limit {
    /// Sells orders in the least shop, and prints how many a second and what was wrong, as JSON.
    BareShop(limit::shop::BareShop),
}

impl Plan {
    /// So many, or so many where it has to be quick.
    fn pick<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }

    /// Rounds of a scenario.
    fn rounds(&self) -> usize {
        usize::from(self.pick(self.pairs, self.pairs.min(3)))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Plan::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was right.
async fn run(plan: &Plan) -> Result<bool> {
    if let Some(Limit::BareShop(shop)) = &plan.limit {
        say(&limit::shop::sell(shop).await?.to_string());
        return Ok(true);
    }
    if plan.list {
        SCENARIOS.iter().for_each(|scenario| say(&format!("{:10} {}", scenario.name, scenario.says)));
        return Ok(true);
    }
    let known = |name: &&String| SCENARIOS.iter().all(|scenario| scenario.name != name.as_str());
    if let Some(unknown) = plan.scenarios.iter().find(known) {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        anyhow::bail!("there is no scenario {unknown}, but {}", names.join(", "));
    }
    fs::create_dir_all(&plan.out).with_context(|| format!("cannot make {}", plan.out.display()))?;
    scene::describe_engines(&plan.out).await?;
    let mut right = true;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.is_wanted(&plan.scenarios, plan.quick)) {
        say(&format!("{}: {}", scenario.name, scenario.says));
        let begin = Instant::now();
        let mut measurement = (scenario.measure)(plan).await.with_context(|| format!("measuring {}", scenario.name))?;
        measurement.seconds = begin.elapsed().as_secs_f64();
        show(&measurement);
        right &= measurement.is_correct();
        let path = plan.out.join(format!("{}.json", scenario.name));
        let text = serde_json::to_vec_pretty(&measurement)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(right)
}

fn show(measurement: &Measurement) {
    for one in &measurement.comparisons {
        let unit = &one.unit;
        say(&format!(
            "  {}: {:.2} {unit} ({}) to {:.2} {unit} ({}): {}, aim {} {}",
            one.what,
            one.measured.median(),
            one.measured.name,
            one.limit.median(),
            one.limit.name,
            one.ratio,
            one.aim,
            one.outcome()
        ));
    }
    measurement.notes.iter().for_each(|note| say(&format!("  {note}")));
    for check in &measurement.checks {
        let outcome = if check.holds() { "holds".to_owned() } else { check.violations.join("; ") };
        say(&format!("  {} ({} looked at): {outcome}", check.says, check.looked_at));
    }
    say(&format!("  took {:.0} s", measurement.seconds));
}

/// One line of text.
pub(crate) fn say(text: &str) {
    // A closed pipe is no reason to stop in the middle of the work.
    let _ = writeln!(std::io::stdout(), "{text}");
}
