//! What becomes of `POST /orders` when more orders come than the shop can take, with the limits of `crates/web` and without them.
//!
//! First the peak is measured, as many orders as can be taken, and in the end once more; shares are of the mean. In between, orders come at multiples of it, whatever becomes of them ([`super::arrivals`]),
//! and at last a rush in which everybody who gets no order asks again at once. *Goodput* is orders that were taken within a second, for each
//! second. After each part the shop comes to rest, so no part carries what an earlier one left behind; and in the end every order that was
//! acknowledged is looked for in the database. Only figures of one run are compared.

mod report;

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context, Result};
use measure::Measurement;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    BenchArgs,
    arrivals::{self, Outcome, Rush, Wish},
    floor,
    load::{self, Target},
};
use crate::{
    console::{self, Step},
    http,
    services::ORDERS,
    stack::Stack,
    workspace,
};
use report::{Health, Part, Report, Scheduled, Storm, Way};

/// Of what the shop can take at most.
const MULTIPLES: [f64; 6] = [0.5, 0.8, 1.0, 2.0, 5.0, 10.0];
/// The name of the threads that answer requests begins so.
const SERVER_THREADS: &str = "actix-server wo";
const WARM_UP_ORDERS: usize = 200;
/// As many as find a place or may wait for one.
const AT_ONCE: usize = 16;
const PART: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// The rush of people who ask again: so much for so long, then ten times the peak, then as before.
const STORM_BASE: f64 = 0.8;
const STORM_PEAK: f64 = 10.0;
const STORM_TRIES: u32 = 5;
const STORM_PARTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(5), Duration::from_secs(15)];

/// Measures, prints, and writes every figure into `target/bench/overload.json`.
pub(super) async fn measure(args: &BenchArgs) -> Result<Measurement> {
    console::heading("More orders than can be taken (a release build: the first one takes minutes)");
    // As in production: every trace would be most of the work.
    let settings = [("orders", "OTEL_TRACES_SAMPLER_ARG", "0"), ("orders", "TRACES_SQL", "false")];
    let stack = floor::open(args, &settings).await?;
    let mut bench = Measuring { stack, furnished: false, acknowledged: Vec::new() };
    let measured = bench.all().await;
    bench.stack.stop(true).await?;
    let report = Report::new(measured?);
    report.show();
    let path = workspace::root()?.join("target/bench/overload.json");
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    console::row("written", path.display());
    Ok(report.measurement())
}

struct Measuring {
    stack: Stack,
    furnished: bool,
    /// The ids of the orders that were answered with 202.
    acknowledged: Vec<String>,
}

impl Measuring {
    async fn all(&mut self) -> Result<[Way; 2]> {
        self.start(true).await?;
        let peak = self.peak().await?;
        let with = self.way(peak, peak).await?;
        self.start(false).await?;
        let before = self.peak().await?;
        let without = self.way(before, peak).await?;
        Ok([with, without])
    }

    /// The service that is measured anew, with its limits or without, and warm.
    async fn start(&mut self, limited: bool) -> Result<()> {
        console::heading(if limited { "With limits" } else { "Without limits (HTTP_ROUTE_PLACES=0)" });
        if limited {
            self.stack.unset("orders", "HTTP_ROUTE_PLACES");
        } else {
            self.stack.set("orders", "HTTP_ROUTE_PLACES", "0");
        }
        self.stack.stop_service("orders").await?;
        self.stack.start_services().await?;
        let target = self.target().await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        floor::at_rest(&self.stack).await
    }

    async fn target(&mut self) -> Result<Target> {
        let target = floor::target(&mut self.stack, !self.furnished).await?;
        self.furnished = true;
        Ok(target)
    }

    /// Orders a second that can be taken.
    async fn peak(&mut self) -> Result<f64> {
        let step = Step::start("peak", "as many orders as can be taken");
        let target = self.target().await?;
        let rate = async |orders: usize| {
            let begin = Instant::now();
            load::as_fast_as_possible(&target, orders, AT_ONCE).await?;
            anyhow::Ok(orders as f64 / begin.elapsed().as_secs_f64())
        };
        let guess = rate(WARM_UP_ORDERS).await?;
        let peak = rate((guess * PART.as_secs_f64()).ceil() as usize).await?;
        floor::at_rest(&self.stack).await?;
        step.done(format_args!("{peak:.0} orders/s"));
        Ok(peak)
    }

    /// Every multiple of the peak, and the storm. Then the peak once more: tables grow and machines have moods, so what can be taken at the end of
    /// a run is not what could be at its beginning.
    async fn way(&mut self, before: f64, peak: f64) -> Result<Way> {
        let mut parts = Vec::new();
        for multiple in MULTIPLES {
            parts.push(self.part(peak, multiple).await?);
        }
        let storm = self.storm(peak).await?;
        let peaks = [before, self.peak().await?];
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let lost = self.lost(&acknowledged).await?;
        Ok(Way { peaks, parts, storm, acknowledged: acknowledged.len(), lost })
    }

    async fn part(&mut self, peak: f64, multiple: f64) -> Result<Part> {
        let step = Step::start(&format!("{multiple} × peak"), "orders come");
        let target = self.target().await?;
        let probes = Probes::start(target.port);
        let (begin, before, placed) = (Instant::now(), self.scheduled(), self.placed().await?);
        let wishes = arrivals::rush(&target, Rush { per_second: peak * multiple, time: PART, tries: 1 }).await?;
        let scheduled = self.scheduled().zip(before).map(|(after, before)| after.since(before));
        let health = probes.end().await?;
        self.remember(&wishes);
        floor::at_rest(&self.stack).await?;
        let ended = (self.placed().await? - placed) / begin.elapsed().as_secs_f64();
        let part = Part::of(multiple, &wishes, PART, health).served(scheduled).ended(ended);
        step.done(format_args!("{part}"));
        Ok(part)
    }

    /// Everybody who gets no order asks again, at once, up to [`STORM_TRIES`] times: what the limits are for is that this ends.
    async fn storm(&mut self, peak: f64) -> Result<Storm> {
        let step = Step::start("retry storm", "orders come, and come again");
        let target = self.target().await?;
        let probes = Probes::start(target.port);
        let begin = Instant::now();
        let rush = |multiple: f64, time| {
            let target = target.clone();
            async move { arrivals::rush(&target, Rush { per_second: peak * multiple, time, tries: STORM_TRIES }).await }
        };
        let [before, storm, after] = STORM_PARTS;
        let later = |pause| async move { tokio::time::sleep_until(begin + pause).await };
        // Those who still ask again when the next part begins do so while it goes on.
        let (first, second, third) = tokio::try_join!(
            rush(STORM_BASE, before),
            async {
                later(before).await;
                rush(STORM_PEAK, storm).await
            },
            async {
                later(before + storm).await;
                rush(STORM_BASE, after).await
            },
        )?;
        let health = probes.end().await?;
        [&first, &second, &third].into_iter().for_each(|wishes| self.remember(wishes));
        let storm = Storm::of(&first, &second, &third, health);
        floor::at_rest(&self.stack).await?;
        step.done(format_args!("{storm}"));
        Ok(storm)
    }

    /// Orders that there are, whoever waited for the answer.
    async fn placed(&self) -> Result<f64> {
        Ok(self.stack.run_sql("orders", "select count(*) from orders;").await?.trim().parse()?)
    }

    /// What the threads that answer requests have had of the processors so far; `None` where the system does not say.
    fn scheduled(&self) -> Option<Scheduled> {
        let server = self.stack.state.services.iter().find(|running| running.service == ORDERS.name)?;
        let tasks = fs::read_dir(format!("/proc/{}/task", server.process.pid())).ok()?;
        let mut all = Scheduled::default();
        for task in tasks.filter_map(|task| Some(task.ok()?.path())) {
            if !fs::read_to_string(task.join("comm")).ok()?.starts_with(SERVER_THREADS) {
                continue;
            }
            let text = fs::read_to_string(task.join("schedstat")).ok()?;
            let mut numbers = text.split_whitespace().map_while(|number| number.parse::<f64>().ok());
            all.ran += numbers.next()?;
            all.waited += numbers.next()?;
        }
        Some(all)
    }

    fn remember(&mut self, wishes: &[Wish]) {
        self.acknowledged.extend(wishes.iter().filter_map(|wish| match &wish.outcome {
            Outcome::Taken(id) => Some(id.clone()),
            _ => None,
        }));
    }

    /// Orders that were acknowledged and are not in the database.
    async fn lost(&self, acknowledged: &[String]) -> Result<usize> {
        let all = self.stack.run_sql("orders", "select id from orders;").await?;
        let there: BTreeSet<&str> = all.lines().map(str::trim).collect();
        Ok(acknowledged.iter().filter(|id| !there.contains(id.as_str())).count())
    }
}

/// Asks for the health of the service all the time.
struct Probes {
    stop: CancellationToken,
    asking: JoinSet<Result<Health>>,
}

impl Probes {
    fn start(port: u16) -> Self {
        let (stop, mut asking) = (CancellationToken::new(), JoinSet::new());
        let stopped = stop.clone();
        asking.spawn(async move {
            let (mut seconds, mut failed) = (Vec::new(), 0);
            let mut ticks = tokio::time::interval(PROBE_EVERY);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                let begin = Instant::now();
                match http::get(port, "/readyz").await {
                    Ok(answer) if answer.status.is_success() => seconds.push(begin.elapsed().as_secs_f64()),
                    _ => failed += 1,
                }
            }
            Ok(Health::of(seconds, failed))
        });
        Self { stop, asking }
    }

    async fn end(mut self) -> Result<Health> {
        self.stop.cancel();
        self.asking.join_next().await.context("it was started")??
    }
}
