//! `cargo dev prove`: has the shop work while things are done to it, and has a checker that shares nothing with it say what came of that.
//!
//! A seed decides what is asked and what is done to the shop ([`plan`]); it does not decide how threads interleave, so every run keeps its
//! history. The customers ([`customers`]) write down each request before it is sent, the [`faults`] write down what shows that they bit,
//! and in the end ([`rest`], [`witness`]) everything is brought into one folder, which `proof check` judges at any later time as well.

mod customers;
mod faults;
mod kinds;
mod lanes;
mod ledger;
mod plan;
mod points;
mod random;
mod rest;
mod samples;
mod schedule;
mod variants;
mod witness;

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use proof::{
    Run, Verdict,
    ledger::{End, Tapped},
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    binaries::{self, Binaries, Profile},
    console::{self, Step},
    engines::Given,
    services::SERVICES,
    stack::{self, Options, Stack},
    workspace,
};
use customers::Customers;
use faults::Faults;
use kinds::Kind;
use ledger::Ledger;
use plan::Plan;
use points::{Folders, matrix::Matrix};
use rest::Bound;
use samples::Samples;
use variants::Part;

pub(crate) use random::Random;
pub(crate) use witness::tap;

/// The longest that anything waits before it goes on by itself is the lease of a job whose worker died; then half a minute for the rest.
const DRAIN_BOUND: Duration = Duration::from_secs(150);

/// Said when the stack of a run is there.
const WORKS: &str = "The shop at work";

/// What to prove.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProveArgs {
    /// What everything random is drawn from: the same seed is the same planned orders and the same faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds, from that one on, each on a stack of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) seeds: u32,
    /// Orders to place, for each seed.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) orders: u32,
    /// Faults to inject for each seed, in episodes of several shapes: alone, overlapping, while it recovers, in a storm, while it is deployed.
    #[arg(long, default_value_t = 24, conflicts_with = "quiet", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) faults: u32,
    /// Only these kinds of fault, such as `kill,lost_queue`.
    #[arg(long, value_delimiter = ',', value_parser = parse_kind, conflicts_with = "quiet")]
    pub(crate) kinds: Vec<Kind>,
    /// A commit whose programs work beside those of this one, such as `HEAD^`: then that is one of the faults, too.
    #[arg(long)]
    pub(crate) other: Option<String>,
    /// What fits into ten minutes of a small machine: every point in the code (see `--points`), then 2000 orders and 24 faults of twelve kinds.
    #[arg(long, conflicts_with_all = ["quiet", "kinds", "orders", "faults", "seeds"])]
    pub(crate) quick: bool,
    /// Do nothing to the shop: then nothing may be delivered twice.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Take guarantees away from the shop, and see what they are for: `--without inbox,waiting`. The run is expected to fail.
    #[arg(long, value_delimiter = ',', value_name = "GUARANTEES")]
    pub(crate) without: Vec<String>,
    /// Instead, see that the checker finds every known-bad variant of the shop, or these: `--mutants inbox,waiting`.
    #[arg(long, num_args = 0.., value_delimiter = ',', value_name = "GUARANTEES", conflicts_with_all = ["without", "quiet", "keep"])]
    pub(crate) mutants: Option<Vec<String>>,
    /// Of the variants only one of so many parts, such as `2/3`.
    #[arg(long, requires = "mutants", value_name = "PART", value_parser = variants::parse_part)]
    pub(crate) part: Option<Part>,
    /// Instead of faults and a number of orders: at every point in the code that can be made to fail, a process aborts, gets an error, panics
    /// and hangs, once each.
    #[arg(long, conflicts_with_all = ["quick", "quiet", "faults", "kinds", "orders", "other"])]
    pub(crate) points: bool,
    /// With optimized programs: for long campaigns, on small machines.
    #[arg(long, conflicts_with = "mutants")]
    pub(crate) optimized: bool,
    /// So many seeds at the same time, each on a stack of its own: most of a run is waiting.
    #[arg(long, default_value_t = 1, conflicts_with_all = ["quick", "mutants", "keep"], value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) lanes: u32,
    /// Do not run what was run before on lanes of this name and came to a verdict, whatever else was asked for then; judge it with the others.
    #[arg(long, requires = "lanes")]
    pub(crate) resume: bool,
    /// Leave the stack running afterwards, for a look at it.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Which stack; it is made anew.
    #[arg(long, default_value = "prove", value_parser = stack::parse_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) engines: Given,
}

impl ProveArgs {
    /// What is run, one after the other, each on a stack of its own.
    fn runs(&self) -> Vec<(u64, Self)> {
        if self.quick {
            let points = Self { points: true, ..self.clone() };
            let faults =
                Self { orders: QUICK_ORDERS, faults: QUICK_FAULTS, kinds: QUICK_KINDS.to_vec(), ..self.clone() };
            return vec![(self.seed, points), (self.seed + 1, faults)];
        }
        (self.seed..self.seed + u64::from(self.seeds)).map(|seed| (seed, self.clone())).collect()
    }

    /// What repeats it.
    fn command(&self) -> String {
        let Self { seed, seeds, orders, faults, .. } = self;
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.about().name).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" --kinds {}", kinds.join(",")) };
        let other = self.other.as_ref().map_or_else(String::new, |commit| format!(" --other {commit}"));
        let without = self.without.join(",");
        let without = if without.is_empty() { without } else { format!(" --without {without}") };
        let version = self.engines.choice.rabbitmq.iter().map(|version| format!(" --rabbitmq {version}"));
        let brokers = self.engines.choice.brokers.iter().map(|count| format!(" --brokers {count}"));
        let engines: String = version.chain(brokers).collect();
        let optimized = if self.optimized { " --optimized" } else { "" };
        let lanes = if self.lanes > 1 { format!(" --lanes {}", self.lanes) } else { String::new() };
        let what = if self.quick {
            "--quick".to_owned()
        } else if self.points {
            format!("--points --seeds {seeds}")
        } else if self.quiet {
            format!("--quiet --seeds {seeds} --orders {orders}")
        } else {
            format!("--seeds {seeds} --orders {orders} --faults {faults}")
        };
        format!("cargo dev prove --seed {seed} {what}{kinds}{other}{engines}{without}{optimized}{lanes}")
    }
}

/// What a short run is made of: one of each sort.
const QUICK_KINDS: [Kind; 12] = [
    Kind::Kill,
    Kind::Pause,
    Kind::Terminate,
    Kind::CloseConnections,
    Kind::KillBroker,
    Kind::MemoryAlarm,
    Kind::LostQueue,
    Kind::TerminateSessions,
    Kind::TerminateOften,
    Kind::CrashDatabase,
    Kind::LockedTable,
    Kind::Poison,
];
const QUICK_ORDERS: u32 = 2_000;
const QUICK_FAULTS: u32 = 24;

/// Runs it, seed by seed. `Ok(false)`: something does not hold.
pub(crate) async fn run(args: ProveArgs) -> Result<bool> {
    if let Some(wanted) = &args.mutants {
        let variants = variants::named(wanted)?;
        return variants::hunt(&args.name, &args.engines, args.part.unwrap_or_default().of(&variants)).await;
    }
    if args.optimized && cfg!(debug_assertions) {
        // What orders and what lies between services and engines have as much to do as the services.
        return binaries::run_again(Profile::Campaign).await;
    }
    let (mut runs, mut failed) = (Vec::new(), 0);
    if args.lanes > 1 {
        (runs, failed) = lanes::run(&args).await?;
    } else {
        for (seed, args) in args.runs() {
            runs.push(one(&args, seed).await?);
        }
    }
    let folder = campaign_folder(&args.name)?;
    // Lanes have folders of their own.
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let page = folder.join("report.html");
    fs::write(&page, proof::report(&runs, &args.command()))
        .with_context(|| format!("cannot write {}", page.display()))?;
    console::heading("Proof");
    console::line(proof::summary(&runs));
    console::row("report", page.display());
    ensure!(failed == 0, "{failed} seeds came to no verdict; --resume runs these once more");
    Ok(runs.iter().all(|(_, verdict)| verdict.holds()))
}

/// One seed, on a stack of its own that is made for it.
async fn one(args: &ProveArgs, seed: u64) -> Result<(Run, Verdict)> {
    let without = if args.without.is_empty() { Vec::new() } else { variants::named(&args.without)? };
    let choice = &args.engines.choice;
    let possible = |kind: &&Kind| kind.fits(choice) && (args.other.is_some() || **kind != Kind::OtherVersion);
    let kinds: Vec<Kind> = match args.kinds.as_slice() {
        [] => Kind::ALL.iter().filter(possible).copied().collect(),
        named => named.to_vec(),
    };
    let plan = if args.points {
        Plan::of_points(seed)
    } else {
        Plan::draw(seed, args.orders, &kinds, if args.quiet { 0 } else { args.faults })
    };
    let folder = run_folder(&args.name, seed)?;
    let what = match plan.points.len() {
        0 => format!("{} orders, {} faults", plan.orders, plan.faults()),
        points => format!("{points} failures at points in the code"),
    };
    console::line(console::bold(&format!("Seed {}: {what}", plan.seed)));
    Stack::purge(&args.name).await?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("plan.json"), serde_json::to_vec_pretty(&plan)?)?;
    console::row("plan", folder.join("plan.json").display());

    let folders = Folders::of_stack(&args.name)?;
    let options = patient(Options::named(&args.name));
    let mut options = folders.prepare(if args.points { less_patient(options) } else { options });
    if args.optimized {
        options.profile = Profile::Campaign;
    }
    options.engines = args.engines.clone();
    options.replicas = plan::REPLICAS;
    options.tap = Some(witness::TAP);
    options.proved = true;
    if !without.is_empty() {
        for service in SERVICES {
            options = options.setting(service.name, "WITHOUT", args.without.join(","));
        }
    }
    let other = match &args.other {
        Some(commit) => Some(binaries::build_at(commit).await?),
        None => None,
    };
    let mut stack = Stack::start(options).await?;
    let proven = prove(&mut stack, plan, other, &folder).await;
    witness::keep_logs(&stack, &folder)?;
    if args.keep {
        // The proxies end with this process.
        stack.leave_proxies().await?;
        console::row("stack", format_args!("goes on running; `cargo dev down --name {}` stops it", args.name));
    } else {
        stack.stop(false).await?;
    }
    let (run, verdict) = proven?;
    console::heading("Verdict");
    console::line(&verdict);
    for explanation in variants::explain(&without, &verdict.violated()) {
        console::row("taken away", explanation);
    }
    console::row("folder", folder.display());
    Ok((run, verdict))
}

async fn prove(stack: &mut Stack, plan: Plan, other: Option<Binaries>, folder: &Path) -> Result<(Run, Verdict)> {
    let plan = Arc::new(plan);
    let ledger = Arc::new(Ledger::create(folder, plan.seed)?);
    console::heading(WORKS);
    let mut customers = Customers::gather(stack, &plan, &ledger).await?;
    let samples = Samples::begin(stack, &ledger);
    let mut faults = Faults::new(&plan, &ledger, other);
    let step = Step::start("orders", "placing them");
    let mut under_way = JoinSet::new();
    for (number, episode) in plan.episodes.iter().enumerate() {
        customers.renew().await?;
        let (wanted, wants) = watch::channel(false);
        let ordering = async {
            customers.order(number, &mut under_way).await?;
            customers.order_while_wanted(wants, &mut under_way).await
        };
        tokio::try_join!(ordering, faults.inject(stack, episode, wanted))?;
    }
    if !plan.points.is_empty() {
        let folders = Folders::of_stack(&stack.state.name)?;
        let mut matrix = Matrix::new(&plan, &folders, folder, &ledger);
        tokio::select! {
            done = matrix.carry_out(stack) => done?,
            // Sooner than everything was done: a customer gave up.
            placed = customers.order(0, &mut under_way) => placed?,
        }
    }
    if plan.quiet {
        customers.order(0, &mut under_way).await?;
    }
    Customers::are_told(under_way).await?;
    step.done(format_args!("{} faults", plan.faults() + plan.points.len()));
    let bound = Bound { whole: DRAIN_BOUND, still: DRAIN_BOUND };
    let mut rest = rest::comes_to_rest(stack, &ledger, bound).await?;
    if rest.stuck.is_none() {
        rest::put_deadlines_away(stack).await?;
        rest.stuck = rest::comes_to_rest(stack, &ledger, bound).await?.stuck;
    }

    drop(samples);
    console::heading("What is left behind");
    let redelivered = faults.redelivered + witness::redelivered(stack).await?;
    let end = End {
        drained_after_ms: rest.after_ms,
        bound_ms: u64::try_from(DRAIN_BOUND.as_millis())?,
        stuck: rest.stuck,
        redelivered,
    };
    judge(stack, folder, &end, faults.heard).await
}

/// Brings everything that was left behind into the folder of the run, and has the checker read it there.
async fn judge(stack: &Stack, folder: &Path, end: &End, heard: Vec<Tapped>) -> Result<(Run, Verdict)> {
    fs::write(folder.join("end.json"), serde_json::to_vec_pretty(end)?)?;
    witness::collect(stack, folder, heard).await?;
    let run = Run::load(folder).context("the run cannot be read")?;
    let verdict = proof::check(&run);
    fs::write(folder.join("verdict.json"), serde_json::to_vec_pretty(&verdict)?)?;
    Ok((run, verdict))
}

/// Outside of every stack's own folder (no stack can have this name), because a stack is deleted before each run.
fn campaign_folder(name: &str) -> Result<PathBuf> {
    Ok(workspace::root()?.join(".dev/_prove").join(name))
}

/// The folder of a run.
fn run_folder(name: &str, run: impl Display) -> Result<PathBuf> {
    let folder = campaign_folder(name)?.join(run.to_string());
    // A run is kept until the same one is made again.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot delete {}", folder.display()))?;
    }
    Ok(folder)
}

fn parse_kind(name: &str) -> Result<Kind, String> {
    let known = |kind: &&Kind| kind.about().name == name;
    Kind::ALL.iter().find(known).copied().ok_or_else(|| {
        let lines = Kind::ALL.iter().map(|kind| format!("\n  {:18} {}", kind.about().name, kind.about().what));
        format!("there are{}", lines.collect::<String>())
    })
}

/// Also what nobody hears of comes due while points are waited for.
fn less_patient(options: Options) -> Options {
    options
        .setting("orders", "STOCK_DEADLINE_SECONDS", plan::LITTLE_PATIENCE.placed_ms / 1000)
        .setting("orders", "PAYMENT_DEADLINE_SECONDS", plan::LITTLE_PATIENCE.reserved_ms / 1000)
        .setting("orders", "COMMIT_DEADLINE_SECONDS", plan::LITTLE_PATIENCE.paid_ms / 1000)
        .setting("inventory", "RESERVATION_SECONDS", 60)
        .setting("notifications", "SMTP_TIMEOUT_SECONDS", 5)
        .setting("notifications", "SMTP_ANSWER_TIMEOUT_SECONDS", 5)
}

/// Orders wait as long as the plan says; a slow payment is not that slow. The first backtrace of a process maps all that the compiler wrote
/// about lines, for good: beside that, nobody would see what grows.
fn patient(options: Options) -> Options {
    SERVICES
        .iter()
        .fold(options, |options, service| options.setting(service.name, "RUST_BACKTRACE", 0))
        .setting("orders", "STOCK_DEADLINE_SECONDS", plan::PATIENCE.placed_ms / 1000)
        .setting("orders", "PAYMENT_DEADLINE_SECONDS", plan::PATIENCE.reserved_ms / 1000)
        .setting("orders", "COMMIT_DEADLINE_SECONDS", plan::PATIENCE.paid_ms / 1000)
        .setting("inventory", "RESERVATION_SECONDS", 300)
        .setting("payments", "PROVIDER_SLOW_SECONDS", 3)
        // Twice as long is what the letters in hand of a process that dies wait.
        .setting("notifications", "SMTP_ANSWER_TIMEOUT_SECONDS", 5)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ProveArgs,
    }

    #[test]
    fn what_repeats_a_run_asks_for_the_same() {
        let read = |words: &str| {
            Line::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{words}: {error}")).args
        };
        for options in [
            "--seed 4",
            "--quick --seed 3 --rabbitmq 4.3 --brokers 3",
            "--quick --other HEAD^ --without inbox",
            "--points --seeds 2 --lanes 2",
            "--quiet --orders 9 --without inbox,waiting",
            "--faults 7 --kinds kill,pause --other HEAD^ --optimized",
        ] {
            let asked = read(&format!("prove {options}"));
            let again = read(asked.command().strip_prefix("cargo dev ").unwrap());
            assert_eq!(format!("{again:?}"), format!("{asked:?}"), "{options}");
        }
    }
}
