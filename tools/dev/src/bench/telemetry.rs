//! What traces cost the whole shop, and that a collector that is there and silent costs nothing more than one that works.
//!
//! The shop runs in a release build, one process of each service. From run to run one thing is changed, where traces go, so every process
//! is started anew and warmed up; runs of the two kinds follow each other in turn.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    load::{self, Target},
    receiver::Collectors,
    statistics::{Ratios, quantile},
};
use crate::{
    binaries::{self, Profile},
    console::{self, Step},
    engines::Given,
    http, seed,
    services::SERVICES,
    shop::eventually,
    stack::{Options, Stack},
    workspace,
};

const STACK: &str = "bench";
const SKU: &str = "BENCH-01";
const PIECES: u32 = 1_000_000;
const CUSTOMERS: usize = 8;
/// Fills pools, caches and plans.
const WARM_UP_ORDERS: usize = 200;
const ORDERS: usize = 1_500;
const AT_ONCE: usize = 16;
/// Share of what the shop can do, for the question how long an order takes.
const PACE: f64 = 0.5;
const PACE_TIME: Duration = Duration::from_secs(15);
/// Enough that none is waited for at that pace.
const PACE_CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(300);

/// Where traces go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traces {
    /// None are made.
    Off,
    /// All of them, to a collector that counts them.
    Counted,
    /// All of them, to a collector that never answers.
    Silent,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    /// Orders per second until all were confirmed: with all traces, to without any.
    throughput_with_to_without: Ratios,
    /// The same, in orders per second.
    orders_per_second: BTreeMap<&'static str, Vec<f64>>,
    spans_per_order: f64,
    /// 99th percentile of `POST /orders` at half the peak: with a silent collector, to one that answers.
    p99_silent_to_counted: Ratios,
    /// The same, in seconds.
    p99_seconds: BTreeMap<&'static str, Vec<f64>>,
    /// Of the largest process at the end of each run, in bytes.
    largest_resident_bytes: BTreeMap<&'static str, Vec<f64>>,
}

/// Measures, prints, and writes `target/bench/telemetry.json`.
pub(crate) async fn run(engines: Given, pairs: usize) -> Result<()> {
    console::heading("What telemetry costs (a release build: the first one takes minutes)");
    let built = binaries::build(Profile::Release).await?;
    let mut options = patient(Options::named(STACK));
    options.profile = Profile::Release;
    options.program = built.path("dev")?.clone();
    options.engines = engines;
    Stack::purge(STACK).await?;
    let stack = Stack::start(options).await?;
    let mut bench = Measuring { stack, collectors: Collectors::start().await?, target: None };
    let report = bench.all(pairs).await;
    bench.stack.stop(true).await?;
    let report = report?;
    show(&report);
    let path = workspace::root()?.join("target/bench/telemetry.json");
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    console::row("written", path.display());
    Ok(())
}

/// Nothing ends because the machine is slow.
fn patient(options: Options) -> Options {
    options
        .setting("orders", "STOCK_DEADLINE_SECONDS", 3600)
        .setting("orders", "PAYMENT_DEADLINE_SECONDS", 3600)
        .setting("orders", "COMMIT_DEADLINE_SECONDS", 3600)
        .setting("inventory", "RESERVATION_SECONDS", 7200)
}

fn show(report: &Report) {
    console::heading("Telemetry");
    console::row("throughput", format_args!("with traces to without: {}", report.throughput_with_to_without));
    for (kind, all) in &report.orders_per_second {
        console::row("", format_args!("{kind}: {} orders/s confirmed", list(all, 1.0, 0)));
    }
    console::row("spans", format_args!("{:.1} for each order", report.spans_per_order));
    console::row(
        "p99 of orders",
        format_args!("silent collector to one that answers: {}", report.p99_silent_to_counted),
    );
    for (kind, all) in &report.p99_seconds {
        console::row("", format_args!("{kind}: {} ms", list(all, 1e3, 1)));
    }
    for (kind, all) in &report.largest_resident_bytes {
        console::row("memory", format_args!("{kind}: {} MiB, largest process", list(all, 1.0 / 1_048_576.0, 0)));
    }
}

fn list(all: &[f64], factor: f64, digits: usize) -> String {
    all.iter().map(|value| format!("{:.digits$}", value * factor)).collect::<Vec<_>>().join(", ")
}

struct Measuring {
    stack: Stack,
    collectors: Collectors,
    target: Option<Target>,
}

impl Measuring {
    async fn all(&mut self, pairs: usize) -> Result<Report> {
        let (mut throughput, mut p99, mut memory) = (Figures::default(), Figures::default(), Figures::default());
        let (mut spans, mut placed) = (0, 0);
        for pair in 1..=pairs {
            // The one that goes first changes, in case that the order matters.
            let kinds = if pair % 2 == 1 { [Traces::Off, Traces::Counted] } else { [Traces::Counted, Traces::Off] };
            for kind in kinds {
                let before = self.collectors.spans();
                let rate = self.throughput(kind, pair, pairs).await?;
                throughput.add(kind, rate);
                if kind == Traces::Counted {
                    spans += self.collectors.spans() - before;
                    placed += WARM_UP_ORDERS + ORDERS;
                }
            }
        }
        let peak = throughput.of(Traces::Counted);
        let pace = peak.iter().sum::<f64>() / peak.len().max(1) as f64 * PACE;
        for pair in 1..=pairs {
            let kinds =
                if pair % 2 == 1 { [Traces::Counted, Traces::Silent] } else { [Traces::Silent, Traces::Counted] };
            for kind in kinds {
                let seconds = self.p99(kind, pace, pair, pairs).await?;
                p99.add(kind, seconds);
                memory.add(kind, self.largest_process().await?);
            }
        }
        Ok(Report {
            throughput_with_to_without: throughput.ratios(Traces::Counted, Traces::Off)?,
            orders_per_second: throughput.0,
            spans_per_order: spans as f64 / placed.max(1) as f64,
            p99_silent_to_counted: p99.ratios(Traces::Silent, Traces::Counted)?,
            p99_seconds: p99.0,
            largest_resident_bytes: memory.0,
        })
    }

    /// Orders per second, from the first request to the last confirmation.
    async fn throughput(&mut self, kind: Traces, pair: usize, pairs: usize) -> Result<f64> {
        let target = self.start(kind).await?;
        let step = Step::start("peak", &format!("traces {kind:?}, pair {pair} of {pairs}"));
        let (begin, before) = (Instant::now(), self.confirmed().await?);
        load::as_fast_as_possible(&target, ORDERS, AT_ONCE).await?;
        self.confirmed_since(before, ORDERS).await?;
        let rate = ORDERS as f64 / begin.elapsed().as_secs_f64();
        step.done(format_args!("pair {pair} of {pairs}, traces {kind:?}: {rate:.0} orders/s confirmed"));
        Ok(rate)
    }

    /// The 99th percentile of `POST /orders`, in seconds.
    async fn p99(&mut self, kind: Traces, pace: f64, pair: usize, pairs: usize) -> Result<f64> {
        let target = self.start(kind).await?;
        let step = Step::start("pace", &format!("traces {kind:?}, pair {pair} of {pairs}"));
        let before = self.confirmed().await?;
        let times = load::at_a_pace(&target, pace, PACE_TIME, PACE_CONNECTIONS).await?;
        self.confirmed_since(before, times.len()).await?;
        let p99 = quantile(&times, 0.99).context("orders were placed")?;
        step.done(format_args!(
            "pair {pair} of {pairs}, traces {kind:?}: p99 {:.1} ms at {pace:.0} orders/s",
            p99 * 1e3
        ));
        Ok(p99)
    }

    /// Every process anew, with traces going there, and warm.
    async fn start(&mut self, kind: Traces) -> Result<Target> {
        let (endpoint, share) = match kind {
            Traces::Off => (String::new(), 0),
            Traces::Counted => (format!("http://127.0.0.1:{}", self.collectors.counting_port), 1),
            Traces::Silent => (format!("http://127.0.0.1:{}", self.collectors.silent_port), 1),
        };
        for service in SERVICES {
            self.stack.set(service.name, "OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
            self.stack.set(service.name, "OTEL_TRACES_SAMPLER_ARG", &share.to_string());
            // As in production, unless somebody wants them: a stack of `cargo dev` does.
            self.stack.set(service.name, "TRACES_SQL", "false");
        }
        for service in SERVICES {
            self.stack.stop_service(service.name).await?;
        }
        self.stack.start_services().await?;
        let target = self.target().await?;
        let before = self.confirmed().await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        self.confirmed_since(before, WARM_UP_ORDERS).await?;
        Ok(target)
    }

    /// Customers who are logged in anew: access tokens do not last as long as a bench does.
    async fn target(&mut self) -> Result<Target> {
        let shop = self.stack.shop();
        if self.target.is_none() {
            let operator = seed::plant(&shop, &mut self.stack.state).await?.operator;
            shop.new_product(&operator, SKU, PIECES).await?;
        }
        let mut people = Vec::new();
        for number in 0..CUSTOMERS {
            let account = crate::state::Account {
                email: format!("bench-{number}@example.test"),
                password: "a long and unlikely pass phrase".to_owned(),
            };
            people.push(shop.customer(&account, "Ann Example").await?);
        }
        if self.target.is_none() {
            // Waits until orders knows the product and every customer.
            for person in &people {
                shop.place(person, SKU, 1, "pm_ok").await?;
            }
        }
        let tokens = people.into_iter().map(|person| person.token).collect();
        let body = json!({ "lines": [{ "sku": SKU, "quantity": 1 }], "payment_method": "pm_ok" });
        let target = Target { port: shop.orders_port(), tokens, body: body.to_string().into() };
        self.target = Some(target.clone());
        Ok(target)
    }

    /// How many orders were confirmed since the process began.
    async fn confirmed(&self) -> Result<f64> {
        let text = http::get(self.stack.port("orders")?, "/metrics").await?.text();
        Ok(sum(&text, "orders_total{", "state=\"confirmed\""))
    }

    async fn confirmed_since(&self, before: f64, orders: usize) -> Result<()> {
        eventually("the confirmation of all orders", PATIENCE, async || {
            Ok((self.confirmed().await? >= before + orders as f64).then_some(()))
        })
        .await
    }

    async fn largest_process(&self) -> Result<f64> {
        let mut largest = 0.0_f64;
        for service in SERVICES {
            let text = http::get(self.stack.port(service.name)?, "/metrics").await?.text();
            largest = largest.max(sum(&text, "process_resident_memory_bytes", ""));
        }
        ensure!(largest > 0.0, "no process says how much memory it has");
        Ok(largest)
    }
}

/// Adds up the samples whose line begins with `name` and has `label` in it (Prometheus' text format).
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// By kind of run, in the order in which they were made.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    fn name(kind: Traces) -> &'static str {
        match kind {
            Traces::Off => "off",
            Traces::Counted => "counted",
            Traces::Silent => "silent",
        }
    }

    fn add(&mut self, kind: Traces, figure: f64) {
        self.0.entry(Self::name(kind)).or_default().push(figure);
    }

    fn of(&self, kind: Traces) -> &[f64] {
        self.0.get(Self::name(kind)).map_or(&[], Vec::as_slice)
    }

    fn ratios(&self, these: Traces, to_those: Traces) -> Result<Ratios> {
        Ratios::of(self.of(these), self.of(to_those)).context("nothing was measured: ask for at least one pair")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_by_name_and_label() {
        let text = "# HELP orders_total x\norders_total{state=\"confirmed\",reason=\"\"} 3\norders_total{state=\"placed\"} 5\n\
                    orders_total{state=\"confirmed\",reason=\"x\"} 4\nprocess_resident_memory_bytes 7\n";
        assert_eq!(sum(text, "orders_total{", "state=\"confirmed\""), 7.0);
        assert_eq!(sum(text, "process_resident_memory_bytes", ""), 7.0);
    }
}
