//! What each service needs: resident memory when nothing goes on and at most, and the time from its start to readiness, with engines that are up.
//! Limits are what is allowed, not another program.
//!
//! Every round starts each process anew, alone, and then has the whole shop work: orders as fast as they are taken, with all their traces, while
//! people log in. Hashing a password takes 19 MiB by design, for each that is hashed at the same time, so the peak of `users` is told apart.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use measure::{Aim, Measurement, Side, quantile_of};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    BenchArgs, floor,
    load::{self, Target},
};
use crate::{
    console::{self, Step},
    replicas,
    services::{SERVICES, USERS},
    stack::Stack,
};

const IDLE_MB: f64 = 25.0;
const PEAK_MB: f64 = 60.0;
/// What Argon2id takes as `users` has it, for each password that is hashed at the same time: one for each core.
const HASH_MB: f64 = 19.0 * 1.048_576;
const READY_MS: f64 = 300.0;
const ROUNDS_MAX: u16 = 3;
const AT_ONCE: usize = 16;
const LOGINS: usize = 3;
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// One process in one round.
#[derive(Clone, Copy)]
struct Figures {
    ready_ms: f64,
    idle_mb: f64,
    peak_mb: f64,
}

pub(super) async fn measure(args: &BenchArgs) -> Result<Measurement> {
    console::heading("What services need (a release build: the first one takes minutes)");
    // As in production: a stack of `cargo dev` traces every statement.
    let settings = SERVICES.map(|service| (service.name, "TRACES_SQL", "false"));
    let mut bench = Measuring { stack: floor::open(args, &settings).await?, target: None };
    let (rounds, orders, rest) = if args.quick { (1, 300, 3) } else { (args.pairs.min(ROUNDS_MAX), 2_000, 10) };
    let measured = bench.all(rounds, orders, Duration::from_secs(rest)).await;
    bench.stack.stop(true).await?;
    measured
}

struct Measuring {
    stack: Stack,
    target: Option<Target>,
}

impl Measuring {
    async fn all(&mut self, rounds: u16, orders: usize, rest: Duration) -> Result<Measurement> {
        let mut memory = Measurement::new(
            "memory",
            "memory of each service, idle and at most, and its start, beside what is allowed",
        );
        let mut figures: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
        for _ in 0..rounds {
            for (service, of) in self.round(orders, rest, &mut memory).await? {
                figures.entry(service).or_default().push(of);
            }
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        compare(&mut memory, &figures, cores);
        for (service, rounds) in &figures {
            let median = |of: fn(&Figures) -> f64| {
                quantile_of(&rounds.iter().map(of).collect::<Vec<_>>(), 0.5).unwrap_or_default()
            };
            memory.note(format!(
                "{service}: {:.1} MB idle, {:.1} MB at most, ready after {:.0} ms",
                median(|of| of.idle_mb),
                median(|of| of.peak_mb),
                median(|of| of.ready_ms)
            ));
        }
        memory.note(format!(
            "at most: since the start of the process, {orders} orders over {AT_ONCE} connections and logins beside them included; users is \
             allowed 19 MiB more for each password that it hashes at once, one for each of {cores} cores"
        ));
        Ok(memory)
    }

    async fn round(
        &mut self,
        orders: usize,
        rest: Duration,
        memory: &mut Measurement,
    ) -> Result<BTreeMap<&'static str, Figures>> {
        let mut ready = BTreeMap::new();
        for service in SERVICES {
            ready.insert(service.name, self.restart(service.name).await?);
        }
        let step = Step::start("idle", "nothing goes on");
        sleep(rest).await;
        let idle = self.resident("VmRSS:")?;
        step.done(list(&idle));
        self.work(orders, memory).await?;
        let peak = self.resident("VmHWM:")?;
        console::row("at most", list(&peak));
        let figures = |service| {
            let of = |all: &BTreeMap<&str, f64>| all.get(service).copied().context("every service was looked at");
            anyhow::Ok(Figures { ready_ms: of(&ready)?, idle_mb: of(&idle)?, peak_mb: of(&peak)? })
        };
        SERVICES.into_iter().map(|service| Ok((service.name, figures(service.name)?))).collect()
    }

    /// Starts a process anew; milliseconds until it says that it is ready.
    async fn restart(&mut self, service: &str) -> Result<f64> {
        self.stack.stop_service(service).await?;
        let port = self.stack.port(service)?;
        let step = Step::start(service, "starting");
        let begin = Instant::now();
        self.stack.start_service(service).await?;
        while let Err(reason) = replicas::readiness(port).await {
            ensure!(begin.elapsed() < PATIENCE, "{service} does not become ready: {reason}");
            sleep(LOOK).await;
        }
        let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
        step.done(format_args!("ready after {milliseconds:.0} ms"));
        Ok(milliseconds)
    }

    /// What every process has, in MB, by this line of its status (proc_pid_status(5)).
    fn resident(&self, line: &str) -> Result<BTreeMap<&'static str, f64>> {
        let mut all = BTreeMap::new();
        for service in SERVICES {
            let running = self.stack.state.services.iter().find(|process| process.service == service.name);
            let running = running.with_context(|| format!("no {} runs", service.name))?;
            ensure!(running.process.is_running(), "{} has ended", service.name);
            let path = format!("/proc/{}/status", running.process.pid());
            let status = fs::read_to_string(&path)
                .with_context(|| format!("memory is read from {path}, which only Linux has"))?;
            all.insert(service.name, megabytes(&status, line).with_context(|| format!("no {line} in {path}"))?);
        }
        Ok(all)
    }

    /// Orders as fast as they are taken, and people who log in meanwhile.
    async fn work(&mut self, orders: usize, memory: &mut Measurement) -> Result<()> {
        let target = floor::target(&mut self.stack, self.target.is_none()).await?;
        self.target = Some(target.clone());
        let step = Step::start("work", "orders and logins");
        // Whoever is a customer for the first time has ordered something.
        floor::all_at_rest(&self.stack).await?;
        let before = floor::Left::count(&self.stack, str::to_owned).await?;
        let mut logins = JoinSet::new();
        for number in 0..floor::CUSTOMERS {
            let (shop, account) = (self.stack.shop(), floor::account(number));
            logins.spawn(async move {
                for _ in 0..LOGINS {
                    shop.log_in(&account.email, &account.password).await?.context("a customer can log in")?;
                }
                anyhow::Ok(())
            });
        }
        load::as_fast_as_possible(&target, orders, AT_ONCE).await?;
        while let Some(login) = logins.join_next().await {
            login.context("a login was not sent")??;
        }
        floor::all_at_rest(&self.stack).await?;
        let after = floor::Left::count(&self.stack, str::to_owned).await?;
        memory.check(
            "each order leaves everywhere what a confirmed one leaves, once",
            orders as u64,
            after.wrong(&before, orders),
        );
        // Whoever cannot has ended this already.
        memory.check("everybody can log in meanwhile", (floor::CUSTOMERS * LOGINS) as u64, Vec::new());
        step.done(format_args!("{orders} orders confirmed"));
        Ok(())
    }
}

fn megabytes(status: &str, line: &str) -> Option<f64> {
    let kibibytes = status.lines().find_map(|text| text.strip_prefix(line))?.split_whitespace().next()?;
    Some(kibibytes.parse::<f64>().ok()? * 1_024.0 / 1e6)
}

fn list(all: &BTreeMap<&str, f64>) -> String {
    all.iter().map(|(service, megabytes)| format!("{service} {megabytes:.0}")).collect::<Vec<_>>().join(", ") + " MB"
}

/// Who needs most in each round, beside what is allowed.
fn compare(memory: &mut Measurement, figures: &BTreeMap<&str, Vec<Figures>>, cores: usize) {
    let rounds = figures.values().map(Vec::len).min().unwrap_or_default();
    let mut most = |what: &str, unit: &str, allowed: f64, of: fn(&Figures) -> f64, who: fn(&str) -> bool| {
        let most = |round: usize| {
            let services = figures.iter().filter(|(service, _)| who(service));
            services.map(|(_, rounds)| of(&rounds[round])).fold(0.0, f64::max)
        };
        let measured = Side::new("who needs most", &(0..rounds).map(most).collect::<Vec<_>>());
        memory.compare(what, unit, measured, Side::new("allowed", &vec![allowed; rounds]), Aim::AtMost(1.0));
    };
    most("resident memory, idle", "MB", IDLE_MB, |of| of.idle_mb, |_| true);
    most("resident memory at most, users apart", "MB", PEAK_MB, |of| of.peak_mb, |service| service != USERS.name);
    let hashing = PEAK_MB + HASH_MB * cores as f64;
    most(
        "resident memory of users at most, with its hashes",
        "MB",
        hashing,
        |of| of.peak_mb,
        |service| service == USERS.name,
    );
    most("from start to ready", "ms", READY_MS, |of| of.ready_ms, |_| true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_megabytes() {
        let status = "Name:\torders\nVmHWM:\t   20000 kB\nVmRSS:\t   10000 kB\n";
        assert_eq!(megabytes(status, "VmHWM:"), Some(20.48));
        assert_eq!(megabytes(status, "VmRSS:"), Some(10.24));
        assert_eq!(megabytes(status, "VmSwap:"), None);
    }

    #[test]
    fn who_needs_most_is_beside_what_is_allowed() {
        let of = |peak_mb| vec![Figures { ready_ms: 100.0, idle_mb: 20.0, peak_mb }];
        let figures = BTreeMap::from([("users", of(90.0)), ("orders", of(30.0)), ("payments", of(25.0))]);
        let mut memory = Measurement::new("memory", "y");
        compare(&mut memory, &figures, 2);
        let ratios: Vec<_> = memory.comparisons.iter().map(|one| one.ratio.median).collect();
        assert_eq!(ratios, [20.0 / IDLE_MB, 30.0 / PEAK_MB, 90.0 / (PEAK_MB + 2.0 * HASH_MB), 100.0 / READY_MS]);
    }
}
