//! `cargo dev check`: everything that can be said about the source without running the system. Each check stands for itself, so
//! that one run names all that is wrong.

mod alerts;
mod contracts;
pub(crate) mod definitions;
mod rust;
mod sql;
mod supply_chain;

use anyhow::Result;

use crate::{
    binaries::{self, Profile},
    console::{self, Step},
    dashboards,
    engines::{self, Given},
    prepare, programs, stack,
    state::State,
    test_summary::Counts,
    workspace,
};

/// What a check has to say.
pub(crate) enum Verdict {
    Passed(String),
    /// With what a person needs to know to put it right.
    Failed(String),
    /// With the reason.
    Skipped(String),
}

impl Verdict {
    /// Of a program that says by itself what is wrong.
    fn of(watched: programs::Watched, passed: &str) -> Self {
        if watched.success { Self::Passed(passed.to_owned()) } else { Self::Failed(watched.printed) }
    }
}

#[derive(Default)]
struct Report(Counts);

impl Report {
    /// Makes a check and shows what came of it. A check that could not be made has not passed.
    async fn check(&mut self, name: &str, check: impl AsyncFnOnce(&mut Step) -> Result<Verdict>) {
        let mut step = Step::start(name, "checking");
        match check(&mut step).await.unwrap_or_else(|error| Verdict::Failed(format!("{error:#}"))) {
            Verdict::Passed(result) => {
                self.0.passed += 1;
                step.done(result);
            }
            Verdict::Skipped(reason) => {
                self.0.skipped += 1;
                step.done(format_args!("skipped: {reason}"));
            }
            Verdict::Failed(reason) => {
                self.0.failed += 1;
                step.failed("see below");
                for line in reason.trim_end().lines() {
                    console::line(format_args!("    {line}"));
                }
            }
        }
    }
}

pub(crate) async fn run(given: Given, quick: bool) -> Result<bool> {
    let root = workspace::root()?;
    let mut report = Report::default();
    console::line(console::bold("Checking"));
    report.check("format", rust::format).await;
    report.check("lints", rust::lints).await;
    report.check("documentation", rust::documentation).await;
    report.check("alerts", async |step| alerts::check(&root, step).await).await;
    report.check("dashboards", async |_| dashboards(&root)).await;
    report.check("compose file", async |_| contracts::compose_file(&root).await).await;
    if quick {
        console::row("left out", "supply chain, contracts, SQL, definitions (--quick)");
    } else {
        report.check("supply chain", async |step| supply_chain::check(&root, step).await).await;
        report.check("advisories", async |_| Ok(supply_chain::advisories())).await;
        report.check("contracts: lint", async |step| contracts::lint(&root, step).await).await;
        report.check("contracts: old", async |step| contracts::breaking(&root, step).await).await;
        check_generated(&root, &mut report, &given).await?;
    }
    console::line(format_args!("\nchecks: {}", report.0));
    Ok(report.0.failed == 0)
}

fn dashboards(root: &std::path::Path) -> Result<Verdict> {
    let outdated = dashboards::outdated(root)?;
    Ok(if outdated.is_empty() {
        Verdict::Passed("they are what deploy/grafana/dashboards.yml says".to_owned())
    } else {
        Verdict::Failed(format!("not what is generated: {}; `cargo dev prepare` renews them", outdated.join(", ")))
    })
}

/// What is generated and checked in must be what would be generated now.
async fn check_generated(root: &std::path::Path, report: &mut Report, given: &Given) -> Result<()> {
    let _lock = stack::lock(prepare::STACK)?;
    let mut state = State::load_or_create(prepare::STACK)?;
    match engines::start_postgres_only(&mut state, given).await {
        Ok(postgres) => sql::check_all(root, &postgres, report).await?,
        Err(error) => report.check("SQL", async |_| Err(error)).await,
    }
    engines::stop(&mut state, false).await?;
    match binaries::build(Profile::Tested).await {
        Ok(binaries) => report.check("definitions", async |_| definitions::check(root, &binaries).await).await,
        Err(error) => report.check("definitions", async |_| Err(error)).await,
    }
    Ok(())
}
