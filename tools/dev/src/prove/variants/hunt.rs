//! `cargo dev prove --mutants`: runs each known-bad variant through its drill and sees that the checker says no, for the right reason. First
//! the shop as it is goes through the same drill: what is found there would be found of every variant.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use proof::{
    Outcome, Run, Verdict,
    ledger::{End, Request, What},
};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Drill, Variant};
use crate::{
    console,
    engines::Given,
    prove::{customers::Customers, judge, ledger::Ledger, rest, run_folder, witness},
    services::SERVICES,
    stack::{Options, Stack},
};

/// What came of a variant.
#[derive(Debug, Serialize)]
struct Row {
    without: &'static str,
    drill: &'static str,
    /// One of its own invariants is violated.
    caught: bool,
    violated: Vec<&'static str>,
    /// Of all orders, counted as they were placed, the first that its own invariants name.
    first_order: Option<usize>,
    orders: usize,
    seconds: f64,
}

/// Hunts these. `Ok(false)`: one was not caught, or the shop as it is does not come through a drill.
pub(in crate::prove) async fn hunt(name: &str, engines: &Given, variants: &[Variant]) -> Result<bool> {
    let began = Instant::now();
    Stack::purge(name).await?;
    let folder = run_folder(name, "mutants")?;
    let mut stack = Stack::start(options(name, engines)).await?;
    let hunted = all(&mut stack, engines, variants, &folder).await;
    stack.stop(false).await?;
    let (rows, sound) = hunted?;
    show(&rows);
    let caught = rows.iter().filter(|row| row.caught).count();
    console::row("caught", format_args!("{caught} of {} in {}", rows.len(), console::duration(began.elapsed())));
    console::row("folder", folder.display());
    Ok(sound && caught == rows.len())
}

fn options(name: &str, engines: &Given) -> Options {
    let mut options = Options::named(name).tested();
    options.engines = engines.clone();
    options.tap = Some(witness::TAP);
    options
}

/// Each variant, after the shop as it is went through its drill; and whether it came through all of them.
async fn all(stack: &mut Stack, engines: &Given, variants: &[Variant], folder: &Path) -> Result<(Vec<Row>, bool)> {
    let (mut rows, mut controls) = (Vec::new(), BTreeMap::new());
    for variant in variants {
        let drill = variant.drill;
        if !controls.contains_key(drill.name) {
            let (_, verdict, took) = once(stack, engines, drill, None, folder).await?;
            if verdict.holds() {
                console::row("sound", format_args!("the shop as it is, {} ({})", drill.name, console::duration(took)));
            } else {
                console::row("NOT SOUND", format_args!("the shop as it is, {}: {}", drill.name, named(&verdict)));
                console::line(&verdict);
            }
            controls.insert(drill.name, verdict.holds());
        }
        let (run, verdict, took) = once(stack, engines, drill, Some(variant.switch), folder).await?;
        let violated = verdict.violated();
        let row = Row {
            without: variant.switch,
            drill: drill.name,
            caught: variant.invariants.iter().any(|invariant| violated.contains(invariant)),
            first_order: first_order(&run, &verdict, variant.invariants),
            orders: run.orders.len(),
            violated,
            seconds: took.as_secs_f64(),
        };
        let label = if row.caught { "caught" } else { "NOT CAUGHT" };
        console::row(label, format_args!("{}: {} ({})", row.without, named(&verdict), console::duration(took)));
        rows.push(row);
        // Whoever ends this has what was seen so far.
        fs::write(folder.join("mutants.json"), serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok((rows, controls.into_values().all(|sound| sound)))
}

fn named(verdict: &Verdict) -> String {
    let violated = verdict.violated();
    if violated.is_empty() { "everything holds".to_owned() } else { violated.join(", ") }
}

/// One drill, from an empty shop to the verdict.
async fn once(
    stack: &mut Stack,
    engines: &Given,
    drill: &Drill,
    without: Option<&str>,
    folder: &Path,
) -> Result<(Run, Verdict, Duration)> {
    let began = Instant::now();
    let title = without.unwrap_or("nothing");
    console::heading(format_args!("Without {title}: {}", drill.name));
    let name = stack.state.name.clone();
    let mut options = drill.options(options(&name, engines));
    if let Some(switch) = without {
        for service in SERVICES {
            options = options.setting(service.name, "WITHOUT", switch);
        }
    }
    let folder = match without {
        Some(switch) => folder.join(switch),
        None => folder.join(format!("nothing, {}", drill.name)),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    stack.renew(options).await?;
    let judged = work(stack, drill, &folder).await;
    witness::keep_logs(stack, &folder)?;
    let (run, verdict) = judged?;
    Ok((run, verdict, began.elapsed()))
}

async fn work(stack: &mut Stack, drill: &Drill, folder: &Path) -> Result<(Run, Verdict)> {
    let plan = Arc::new(drill.plan());
    fs::write(folder.join("plan.json"), serde_json::to_vec_pretty(&*plan)?)?;
    let ledger = Arc::new(Ledger::create(folder, plan.seed)?);
    let customers = Customers::gather(stack, &plan, &ledger).await?;
    drill.prepare(stack).await?;
    let mut under_way = JoinSet::new();
    tokio::try_join!(customers.order(0, &mut under_way), drill.disturb(stack, &ledger))?;
    Customers::are_told(under_way).await?;
    let mut rest = rest::comes_to_rest(stack, &ledger, drill.rest()).await?;
    rest::put_deadlines_away(stack).await?;
    if rest.stuck.is_none() {
        rest.stuck = rest::comes_to_rest(stack, &ledger, drill.rest()).await?.stuck;
    }
    let end = End {
        drained_after_ms: rest.after_ms,
        // What is not at rest by then is written down as stuck; looking takes a moment, too.
        bound_ms: u64::try_from(drill.rest().whole.as_millis())? + 2_000,
        stuck: rest.stuck,
        redelivered: witness::redelivered(stack).await?,
    };
    judge(stack, folder, &end, Vec::new()).await
}

/// The first order, counted as they were placed, that one of these invariants names.
fn first_order(run: &Run, verdict: &Verdict, invariants: &[&str]) -> Option<usize> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut asked: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in &run.history {
        if let What::Invoke { request: Request::Order { .. }, .. } = &entry.what {
            let next = asked.len() + 1;
            let place = *asked.entry(entry.op).or_insert(next);
            places.insert(format!("request {}", entry.op), place);
        }
        if let (What::Ok { order: Some(order), .. }, Some(place)) = (&entry.what, asked.get(&entry.op)) {
            places.insert(order.id.clone(), *place);
        }
    }
    let own = verdict.findings.iter().filter(|finding| invariants.contains(&finding.invariant));
    let violations = own.filter_map(|finding| match &finding.outcome {
        Outcome::Violated { violations, .. } => Some(violations),
        _ => None,
    });
    let named = violations.flatten().flat_map(|violation| {
        let told = places.iter().filter(|(id, _)| violation.ids.contains(id) || violation.what.contains(id.as_str()));
        told.map(|(_, place)| *place)
    });
    named.min()
}

fn show(rows: &[Row]) {
    console::heading("Known-bad variants");
    console::line(format_args!("  {:22} {:18} {:>12} {:>8}  violated", "without", "drill", "order", "time"));
    for Row { without, drill, caught, violated, first_order, orders, seconds } in rows {
        let first = first_order.map_or_else(|| "–".to_owned(), |first| format!("{first} of {orders}"));
        let violated = if *caught { violated.join(", ") } else { format!("NOT CAUGHT {}", violated.join(", ")) };
        console::line(format_args!("  {without:22} {drill:18} {first:>12} {seconds:>6.1} s  {violated}"));
    }
}
