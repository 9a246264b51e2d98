//! Several seeds at the same time, each by a `cargo dev prove` of its own: most of a run is waiting. What they print is kept beside what
//! they leave; here is only how each ended.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use proof::{Run, Verdict};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::Semaphore,
    task::JoinSet,
};

use super::{ProveArgs, WORKS, campaign_folder};
use crate::{console, stack};

/// What came of every seed, by seed; and how many came to no verdict.
pub(super) async fn run(args: &ProveArgs) -> Result<(Vec<(Run, Verdict)>, usize)> {
    let lane_name = |number: u32| format!("{}-{number}", args.name);
    let (mut seeds, mut folders, mut failed) = (VecDeque::new(), Vec::new(), 0);
    for seed in args.seed..args.seed + u64::from(args.seeds) {
        let lanes = (1..=args.lanes).map(|number| campaign_folder(&lane_name(number)));
        let known =
            lanes.collect::<Result<Vec<_>>>()?.into_iter().find(|folder| args.resume && is_judged(folder, seed));
        match known {
            Some(folder) => folders.push((seed, folder.join(seed.to_string()))),
            None => seeds.push_back(seed),
        }
    }
    let lanes = args.lanes.min(u32::try_from(seeds.len())?);
    let seeds = Arc::new(Mutex::new(seeds));
    // Ports are looked for when a stack is made: one at a time is.
    let making = Arc::new(Semaphore::new(1));
    let mut running = JoinSet::new();
    for number in 1..=lanes {
        let lane = Lane { name: lane_name(number), making: Arc::clone(&making) };
        let seeds = Arc::clone(&seeds);
        running.spawn(async move {
            let mut ended = Vec::new();
            while let Some(seed) = next(&seeds) {
                ended.push((seed, lane.prove(seed).await));
            }
            ended
        });
    }
    while let Some(lane) = running.join_next().await {
        for (seed, folder) in lane.context("a lane was left")? {
            match folder {
                Ok(folder) => folders.push((seed, folder)),
                Err(error) => {
                    failed += 1;
                    console::row("NO VERDICT", format_args!("{error:#}"));
                }
            }
        }
    }
    folders.sort();
    let judged = folders.into_iter().map(|(_, folder)| {
        let run = Run::load(&folder)?;
        let verdict = proof::check(&run);
        anyhow::Ok((run, verdict))
    });
    Ok((judged.collect::<Result<_>>()?, failed))
}

/// How the last line of a run begins.
fn verdict_of(seed: u64) -> String {
    format!("seed {seed}:")
}

/// Whether a seed was run before, to its verdict.
fn is_judged(folder: &Path, seed: u64) -> bool {
    let printed = fs::read_to_string(folder.join(format!("{seed}.txt"))).unwrap_or_default();
    printed.lines().any(|line| line.starts_with(&verdict_of(seed)))
}

fn next(seeds: &Mutex<VecDeque<u64>>) -> Option<u64> {
    seeds.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// One seed after the other, on stacks of one name.
struct Lane {
    name: String,
    making: Arc<Semaphore>,
}

impl Lane {
    /// One seed; the folder of its run.
    async fn prove(&self, seed: u64) -> Result<PathBuf> {
        let mut making = Some(self.making.acquire().await.context("stacks are made")?);
        console::row(&format!("seed {seed}"), format_args!("on the stack {}", self.name));
        let mut command = Command::new(stack::this_program());
        command.args(self.arguments(seed)).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let folder = campaign_folder(&self.name)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let printed = folder.join(format!("{seed}.txt"));
        let mut kept = File::create(&printed).with_context(|| format!("cannot write {}", printed.display()))?;
        let mut child = command.stderr(kept.try_clone()?).spawn().context("cannot run this program")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let mut last = String::new();
        while let Some(line) = lines.next_line().await? {
            writeln!(kept, "{line}")?;
            if line.contains(WORKS) {
                making = None;
            }
            if line.starts_with(&verdict_of(seed)) {
                last = line;
            }
        }
        drop(making);
        let status = child.wait().await?;
        ensure!(!last.is_empty(), "seed {seed} came to no verdict; {} says why", printed.display());
        console::row(if status.success() { "holds" } else { "VIOLATED" }, last);
        Ok(folder.join(seed.to_string()))
    }

    /// What this program was told, for one seed and on a stack of the lane's own. What comes later counts.
    fn arguments(&self, seed: u64) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let seed = seed.to_string();
        let own = ["--seed", &seed, "--seeds", "1", "--lanes", "1", "--name", &self.name];
        arguments.extend(own.map(OsString::from));
        arguments
    }
}
