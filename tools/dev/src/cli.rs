//! The command line: what can be asked for. What each command does is in the module of its name.

use std::{net::SocketAddr, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    backend,
    bench::{self, BenchArgs},
    check, commands, console, demo,
    engines::Given,
    prepare,
    prove::{self, ProveArgs},
    stack, test, workspace,
};

#[derive(Parser)]
#[command(
    name = "cargo dev",
    bin_name = "cargo dev",
    about = "Runs, tests and checks the whole system on this machine."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything: engines, mailbox, traces, services, a catalogue; ends with an order whose way and trace it shows.
    Up(UpArgs),
    /// Show what becomes of an order, in plain sight: paid, out of stock, declined, cancelled, paid too late.
    Demo(DemoArgs),
    /// Stop what `up` started.
    Down(DownArgs),
    /// Show what runs, where, and how it is.
    Status(NameArgs),
    /// Run every test on private engines of their own.
    Test(TestArgs),
    /// Measure, in release builds, each thing beside the least program that does the same without our code.
    Bench(BenchArgs),
    /// Have the shop work while processes, broker and database are killed, and have a checker say what came of it.
    #[command(args_override_self = true)]
    Prove(ProveArgs),
    /// Check format, lints, documentation, alerts, supply chain, contracts and generated files.
    Check(CheckArgs),
    /// Renew what is generated and checked in: `.sqlx/` of every package, the broker definitions, the dashboards.
    Prepare(PrepareArgs),
    /// The page of a stack and, without Docker, its mailbox and its traces, as one process.
    #[command(hide = true)]
    Backend(BackendArgs),
}

#[derive(Args)]
struct NameArgs {
    /// Which stack; several run side by side under different names.
    #[arg(long, default_value = stack::DEFAULT_NAME, value_parser = stack::parse_name)]
    name: String,
}

#[derive(Args)]
struct UpArgs {
    #[command(flatten)]
    stack: NameArgs,
    /// Return when everything runs; without it the logs are shown until Ctrl-C, which stops what was started.
    #[arg(long)]
    detach: bool,
    /// How many processes of each service, each on a port ten above the one before.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    replicas: u16,
    #[command(flatten)]
    engines: Given,
}

#[derive(Args)]
struct DemoArgs {
    /// Which scenarios; all of them if none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(demo::names()))]
    scenarios: Vec<String>,
    #[command(flatten)]
    stack: NameArgs,
    #[command(flatten)]
    engines: Given,
}

#[derive(Args)]
struct DownArgs {
    #[command(flatten)]
    stack: NameArgs,
    /// Also delete the data: databases, queues, mails, logs, passwords. What is on engines that were given by URL stays.
    #[arg(long)]
    purge: bool,
}

#[derive(Args)]
struct TestArgs {
    /// Leave the engines running, so that the next run starts at once.
    #[arg(long)]
    keep: bool,
    /// Instead, run each test of a guarantee with that guarantee switched off, and see it fail.
    #[arg(long, conflicts_with = "runner")]
    mutants: bool,
    /// Only send generated requests to a whole stack and compare its answers with what the services document.
    #[arg(long, conflicts_with_all = ["runner", "mutants"])]
    fuzz: bool,
    /// Leave those out of the run of everything.
    #[arg(long, conflicts_with = "fuzz")]
    no_fuzz: bool,
    #[command(flatten)]
    engines: Given,
    /// Passed on to the test runner, for example `-p users`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    runner: Vec<String>,
}

#[derive(Args)]
struct CheckArgs {
    /// Leave out the checks that need to download something or take minutes.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    engines: Given,
}

#[derive(Args)]
struct PrepareArgs {
    /// Only the dashboards, which need neither engines nor a build.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    engines: Given,
}

#[derive(Args)]
struct BackendArgs {
    #[arg(long)]
    stack: String,
    #[arg(long)]
    page: SocketAddr,
    #[command(flatten)]
    own: Option<OwnArgs>,
}

#[derive(Args)]
#[group(multiple = true)]
struct OwnArgs {
    #[arg(long)]
    smtp: SocketAddr,
    #[arg(long)]
    mailbox: SocketAddr,
    #[arg(long)]
    otlp: SocketAddr,
    #[arg(long)]
    traces: SocketAddr,
    /// Have the mailbox do as it is told over HTTP.
    #[arg(long)]
    obedient: bool,
}

/// Reads the command line, does what it says, and answers with the exit code of the process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console::failure(&anyhow::Error::new(error).context("cannot start the async runtime")),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => console::failure(&error),
    }
}

/// `Ok(false)` is a "no" that has already been explained: a test that failed, a check that found something.
async fn run(command: Command) -> anyhow::Result<bool> {
    if !matches!(command, Command::Down(_) | Command::Status(_) | Command::Backend(_)) {
        workspace::say_if_room_is_scarce()?;
    }
    match command {
        Command::Up(args) => {
            let mut options = stack::Options::named(&args.stack.name);
            options.replicas = args.replicas;
            // As often as a person looks.
            options.monitoring = Some(stack::Monitoring { interval_seconds: 5 });
            options.engines = args.engines;
            commands::up(options, args.detach).await
        }
        Command::Demo(args) => {
            let mut options = stack::Options::named(&args.stack.name);
            options.engines = args.engines;
            demo::run(options, &args.scenarios).await
        }
        Command::Down(args) => commands::down(&args.stack.name, args.purge).await,
        Command::Status(args) => commands::status(&args.name).await,
        Command::Test(args) => {
            let what = match (args.mutants, args.fuzz) {
                (true, _) => test::What::Switches,
                (_, true) => test::What::Fuzz,
                _ => test::What::Tests { runner: &args.runner, fuzz: args.runner.is_empty() && !args.no_fuzz },
            };
            test::run(args.engines, args.keep, what).await
        }
        Command::Bench(args) => bench::run(args).await,
        Command::Prove(args) => prove::run(args).await,
        Command::Check(args) => check::run(args.engines, args.quick).await,
        Command::Prepare(args) => prepare::run(args.engines, args.quick).await,
        Command::Backend(BackendArgs { stack, page, own }) => {
            let own = own.map(|OwnArgs { smtp, mailbox, otlp, traces, obedient }| backend::Own {
                smtp,
                mailbox,
                otlp,
                traces,
                obedient,
            });
            backend::run(stack, page, own).await
        }
    }
}
