//! What traces cost the whole shop, and that a collector that is there and silent costs nothing more than one that works.
//!
//! The shop runs in a release build, one process of each service. From run to run one thing is changed, where traces go, so every process
//! is started anew and warmed up; runs of the two kinds follow each other in turn.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use measure::{Aim, Measurement, Side, in_turn, quantile};
use tokio::time::Instant;

use super::{
    BenchArgs, floor,
    load::{self, Target},
    receiver::Collectors,
};
use crate::{
    console::{self, Step},
    services::SERVICES,
    stack::Stack,
};

/// Fills pools, caches and plans.
const WARM_UP_ORDERS: usize = 200;
const ORDERS: usize = 1_500;
const AT_ONCE: usize = 16;
/// Share of what the shop can do, for the question how long an order takes.
const PACE: f64 = 0.5;
const PACE_TIME: Duration = Duration::from_secs(15);
/// Enough that none is waited for at that pace.
const PACE_CONNECTIONS: usize = 64;

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

/// Measures.
pub(super) async fn measure(args: &BenchArgs) -> Result<Measurement> {
    console::heading("What telemetry costs (a release build: the first one takes minutes)");
    let stack = floor::open(args, &[]).await?;
    let mut bench = Measuring { stack, collectors: Collectors::start().await?, furnished: false };
    let measured = bench.all(args.rounds()).await;
    bench.stack.stop(true).await?;
    measured
}

fn list(all: &[f64]) -> String {
    all.iter().map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(", ")
}

struct Measuring {
    stack: Stack,
    collectors: Collectors,
    furnished: bool,
}

impl Measuring {
    async fn all(&mut self, pairs: usize) -> Result<Measurement> {
        let mut telemetry =
            Measurement::new("telemetry", "the whole shop with traces, beside without; and with a silent collector");
        let (mut spans, mut placed) = (0, 0);
        let rates = in_turn(&[Traces::Counted, Traces::Off], pairs, async |kind| {
            let before = self.collectors.spans();
            let rate = self.throughput(kind).await?;
            if kind == Traces::Counted {
                spans += self.collectors.spans() - before;
                placed += WARM_UP_ORDERS + ORDERS;
            }
            anyhow::Ok(rate)
        })
        .await?;
        let (with, without) = (Side::new("all traces", &rates[0]), Side::new("no traces", &rates[1]));
        let pace = with.median() * PACE;
        // Every run waits for the confirmation of each of its orders.
        telemetry.check("every order is confirmed", (2 * pairs * ORDERS) as u64, Vec::new());
        telemetry.compare("orders confirmed per second", "1/s", with, without, Aim::AtLeast(0.95));
        let mut memory = Vec::new();
        let p99s = in_turn(&[Traces::Silent, Traces::Counted], pairs, async |kind| {
            let seconds = self.p99(kind, pace).await?;
            memory.push((kind, self.largest_process().await? / 1_048_576.0));
            anyhow::Ok(seconds * 1e3)
        })
        .await?;
        let (silent, counted) = (Side::new("a silent collector", &p99s[0]), Side::new("one that answers", &p99s[1]));
        telemetry.compare("p99 of POST /orders at half the peak", "ms", silent, counted, Aim::AtMost(1.2));
        telemetry.note(format!("{:.1} spans for each order", spans as f64 / placed.max(1) as f64));
        for kind in [Traces::Silent, Traces::Counted] {
            let of: Vec<_> = memory.iter().filter(|(of, _)| *of == kind).map(|(_, size)| *size).collect();
            telemetry.note(format!("largest process with {kind:?}: {} MiB", list(&of)));
        }
        Ok(telemetry)
    }

    /// Orders per second, from the first request to the last confirmation.
    async fn throughput(&mut self, kind: Traces) -> Result<f64> {
        let target = self.start(kind).await?;
        let step = Step::start("peak", &format!("traces {kind:?}"));
        let (begin, before) = (Instant::now(), floor::confirmed(&self.stack).await?);
        load::as_fast_as_possible(&target, ORDERS, AT_ONCE).await?;
        floor::confirmed_since(&self.stack, before, ORDERS).await?;
        let rate = ORDERS as f64 / begin.elapsed().as_secs_f64();
        step.done(format_args!("traces {kind:?}: {rate:.0} orders/s confirmed"));
        Ok(rate)
    }

    /// The 99th percentile of `POST /orders`, in seconds.
    async fn p99(&mut self, kind: Traces, pace: f64) -> Result<f64> {
        let target = self.start(kind).await?;
        let step = Step::start("pace", &format!("traces {kind:?}"));
        let before = floor::confirmed(&self.stack).await?;
        let times = load::at_a_pace(&target, pace, PACE_TIME, PACE_CONNECTIONS).await?;
        floor::confirmed_since(&self.stack, before, times.len()).await?;
        let p99 = quantile(&times, 0.99).context("orders were placed")?;
        step.done(format_args!("traces {kind:?}: p99 {:.1} ms at {pace:.0} orders/s", p99 * 1e3));
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
        let target = floor::target(&mut self.stack, !self.furnished).await?;
        self.furnished = true;
        let before = floor::confirmed(&self.stack).await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        floor::confirmed_since(&self.stack, before, WARM_UP_ORDERS).await?;
        Ok(target)
    }

    async fn largest_process(&self) -> Result<f64> {
        let mut largest = 0.0_f64;
        for service in SERVICES {
            let text = floor::metrics(&self.stack, service.name).await?;
            largest = largest.max(floor::sum(&text, "process_resident_memory_bytes", ""));
        }
        ensure!(largest > 0.0, "no process says how much memory it has");
        Ok(largest)
    }
}
