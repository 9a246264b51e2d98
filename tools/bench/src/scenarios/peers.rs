//! Two hops with outbox and inbox, from a commit over two queues to the second effect, beside published libraries that people of other languages,
//! and of ours, would take. Their programs are in `tools/bench/peers`; who cannot be installed here is left out, and it is said.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use measure::{Aim, Measurement, Side, in_turn};
use sqlx::{Connection as _, PgConnection};
use testkit::{Database, Stage, Vhost};
use tokio::{fs, process::Command, time::timeout};

use crate::{Plan, checks, ours::hops, queue, say, scene::SERVICE};

/// Whose tables they are does not matter to anybody; doubles are to be seen, so nothing is unique.
const TABLES: &str = "create table placed (id text not null); create table first (id text not null); create table second (id text not null)";
const QUEUES: [&str; 2] = ["one", "two"];
/// More takes long where a few hundred a second is much.
const ROUNDS_MAX: usize = 3;
const PATIENCE: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    FastStream,
    PgTransactionalOutbox,
    Hexeract,
}

const PEERS: [Peer; 3] = [Peer::FastStream, Peer::PgTransactionalOutbox, Peer::Hexeract];

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut peers =
        Measurement::new("peers", "two hops with outbox and inbox, beside published libraries in a process each");
    let folder = plan.out.parent().unwrap_or(Path::new("target/bench")).join("peers");
    let mut there = Vec::new();
    for peer in PEERS {
        match peer.install(&folder).await {
            Ok(()) => there.push(peer),
            Err(error) => peers.note(format!("{} is left out: {error:#}", peer.name())),
        }
    }
    let events = plan.pick(5_000, 400);
    let sides: Vec<Option<Peer>> = [None].into_iter().chain(there.iter().copied().map(Some)).collect();
    let mut run = async |side: Option<Peer>, events| match side {
        None => ours(events, &mut peers).await,
        Some(peer) => peer.run(&folder, events, &mut peers).await.with_context(|| peer.name()),
    };
    for side in &sides {
        run(*side, events / 10).await?;
    }
    let rates = in_turn(&sides, plan.rounds().min(ROUNDS_MAX), async |side| run(side, events).await).await?;
    let best = |which: fn(Peer) -> bool| {
        let of: Vec<_> = there.iter().zip(&rates[1..]).filter(|(peer, _)| which(**peer)).map(|(_, of)| of).collect();
        (0..rates[0].len()).map_while(|round| of.iter().map(|of| of[round]).reduce(f64::max)).collect::<Vec<_>>()
    };
    let (scripts, rust) = (best(|peer| peer != Peer::Hexeract), best(|peer| peer == Peer::Hexeract));
    let ours = || Side::new("ours", &rates[0]);
    peers.compare(
        "Python and Node: events that came to their second effect, per second",
        "1/s",
        ours(),
        Side::new("best of Python and Node", &scripts),
        Aim::AtLeast(10.0),
    );
    peers.compare(
        "Rust: events that came to their second effect, per second",
        "1/s",
        ours(),
        Side::new("best in Rust", &rust),
        Aim::AtLeast(3.0),
    );
    for (peer, rates) in there.iter().zip(&rates[1..]) {
        peers.note(format!("{}: {:.0} a second; {}", peer.name(), Side::new("", rates).median(), peer.lacks()));
    }
    peers.note("one process each, so Python and Node use one core and we and Rust's use all; ours keeps the order of each key and a journal");
    Ok(peers)
}

async fn ours(events: usize, peers: &mut Measurement) -> Result<f64> {
    let mut stage = Stage::new(SERVICE, &[hops::topology()]).await;
    stage.expect_leftovers();
    stage.execute(TABLES).await;
    let rate = hops::run(&stage, events).await?;
    came_once(peers, "ours", &stage.database.url, events).await?;
    Ok(rate)
}

/// Looks at what is in the tables in the end.
async fn came_once(peers: &mut Measurement, side: &str, url: &str, events: usize) -> Result<()> {
    let mut conn = PgConnection::connect(url).await?;
    let events = i64::try_from(events)?;
    for (what, query) in [
        ("each transaction is there once", "select count(*) from placed"),
        ("each has its first effect once", "select count(*) from first"),
        ("each has its second effect once", "select count(*) from second"),
        (
            "each effect is of its own transaction",
            "select count(distinct id) from placed join first using (id) join second using (id)",
        ),
    ] {
        checks::equal(peers, what, side, events, sqlx::query_scalar(query).fetch_one(&mut conn).await?);
    }
    Ok(())
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::FastStream => "faststream-outbox (Python)",
            Self::PgTransactionalOutbox => "pg-transactional-outbox (Node)",
            Self::Hexeract => "hexeract (Rust)",
        }
    }

    /// Of what ours guarantees.
    fn lacks(self) -> &'static str {
        match self {
            Self::FastStream => {
                "it has no inbox (a table by hand here), keeps the order of a key at best, and what was sent is gone: nothing can be replayed"
            }
            Self::PgTransactionalOutbox => {
                "it knows nothing of RabbitMQ (by hand here), a message that is given up stays in its table without a way to redrive it, and nothing \
                 carries a trace"
            }
            Self::Hexeract => {
                "it has no inbox (a table by hand here), keeps the order of a subject at best, as its documentation says, and what was sent cannot be \
                 replayed"
            }
        }
    }

    fn source(self) -> PathBuf {
        let folder = match self {
            Self::FastStream => "faststream",
            Self::PgTransactionalOutbox => "pg-transactional-outbox",
            Self::Hexeract => "hexeract",
        };
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers")).join(folder)
    }

    /// Where it is installed.
    fn home(self, folder: &Path) -> PathBuf {
        folder.join(self.source().file_name().unwrap_or_default())
    }

    async fn install(self, folder: &Path) -> Result<()> {
        let (source, home) = (self.source(), self.home(folder));
        fs::create_dir_all(&home).await.with_context(|| format!("cannot make {}", home.display()))?;
        say(&format!("  installing {} into {}", self.name(), home.display()));
        match self {
            Self::FastStream => {
                done(Command::new("python3").args(["-m", "venv"]).arg(&home)).await?;
                let requirements = source.join("requirements.txt");
                let mut pip = Command::new(home.join("bin/pip"));
                done(pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(requirements))
                    .await
            }
            Self::PgTransactionalOutbox => {
                for file in ["package.json", "package-lock.json", "peer.mjs"] {
                    fs::copy(source.join(file), home.join(file))
                        .await
                        .with_context(|| format!("cannot copy {file}"))?;
                }
                done(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&home)).await
            }
            Self::Hexeract => {
                let mut cargo = Command::new("cargo");
                cargo.args(["build", "--locked", "--manifest-path"]).arg(source.join("Cargo.toml"));
                cargo.arg("--target-dir").arg(&home).args((!cfg!(debug_assertions)).then_some("--release"));
                done(&mut cargo).await
            }
        }
    }

    fn program(self, home: &Path) -> Command {
        match self {
            Self::FastStream => {
                let mut python = Command::new(home.join("bin/python"));
                python.arg(self.source().join("peer.py"));
                python
            }
            Self::PgTransactionalOutbox => {
                let mut node = Command::new("node");
                node.arg("peer.mjs").current_dir(home);
                node
            }
            // As optimized as we are.
            Self::Hexeract => {
                Command::new(home.join(if cfg!(debug_assertions) { "debug" } else { "release" }).join("hexeract-peer"))
            }
        }
    }

    async fn run(self, folder: &Path, events: usize, peers: &mut Measurement) -> Result<f64> {
        let (database, vhost) = (Database::create().await, Vhost::create(&[]).await);
        sqlx::raw_sql(TABLES).execute(&database.pool).await?;
        let connection = queue::connect(&vhost.amqp_url).await?;
        let channel = connection.create_channel().await?;
        for name in QUEUES {
            queue::declare(&channel, name).await?;
        }
        let mut program = self.program(&self.home(folder));
        program.env("DATABASE_URL", &database.url).env("AMQP_URL", &vhost.amqp_url).env("EVENTS", events.to_string());
        let ended = timeout(PATIENCE, program.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = ended.with_context(|| format!("{events} events took longer than {PATIENCE:?}"))??;
        let printed = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "it failed: {}", String::from_utf8_lossy(&output.stderr));
        let last: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap_or_default())?;
        came_once(peers, self.name(), &database.url, events).await?;
        connection.close(200, "done".into()).await?;
        last["per_second"].as_f64().context("it says how many a second")
    }
}

/// Runs it to its end.
async fn done(command: &mut Command) -> Result<()> {
    let program = command.as_std().get_program().display().to_string();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{program} failed: {}", said.lines().last().unwrap_or_default());
    }
    Ok(())
}
