//! Runs as one page for people: the verdict, what was done when, and how the shop bore it. The page needs nothing but itself.

mod chart;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    Finding, Outcome, Run, Verdict,
    ledger::{Request, What},
    operations::{self, Operation},
    verdict::Counts,
};
use chart::{Chart, Line};

const STYLE: &str = include_str!("report/style.css");
/// Of what happens within it, one point is drawn.
const BUCKET_MS: u64 = 2_000;

/// All runs of a campaign on one page; `command` repeats it.
#[must_use]
pub fn report(runs: &[(Run, Verdict)], command: &str) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Proof</title><style>{STYLE}</style></head><body><main><h1>Proof</h1>"
    );
    let holds = runs.iter().all(|(_, verdict)| verdict.holds());
    let _ = write!(
        page,
        "<p class={}>{}</p><p>{}</p><p>Again: <code>{}</code></p>",
        if holds { "good" } else { "bad" },
        if holds { "Everything holds." } else { "Something does not hold." },
        escape(&summary(runs)),
        escape(command)
    );
    if runs.len() > 1 {
        table_of_runs(&mut page, runs);
    }
    kinds(&mut page, runs);
    for (run, verdict) in runs {
        one(&mut page, run, verdict);
    }
    page += "</main></body></html>\n";
    page
}

/// All of it in one line.
#[must_use]
pub fn summary(runs: &[(Run, Verdict)]) -> String {
    let sum = |of: fn(&Counts) -> u64| runs.iter().map(|(_, verdict)| of(&verdict.counts)).sum::<u64>();
    let broken = |names: &[&str]| runs.iter().map(|(_, verdict)| verdict.count(names)).sum::<usize>();
    let kinds: BTreeSet<&str> = runs.iter().flat_map(|(run, _)| &run.faults).map(|fault| fault.kind.as_str()).collect();
    let slowest = runs.iter().map(|(_, verdict)| verdict.counts.drained_after_ms).max().unwrap_or(0);
    format!(
        "{} seeds, {} orders, {} faults of {} kinds: {} acknowledged lost, {} duplicate effects, {} oversold, {} deliveries duplicated \
         and absorbed, {} unclear requests recovered, drained in {:.1} s at most",
        runs.len(),
        sum(|counts| counts.orders as u64),
        sum(|counts| counts.faults as u64),
        kinds.len(),
        broken(Verdict::LOST),
        broken(Verdict::DUPLICATE),
        broken(Verdict::OVERSOLD),
        sum(|counts| counts.absorbed),
        sum(|counts| counts.recovered as u64),
        slowest as f64 / 1e3,
    )
}

fn table_of_runs(page: &mut String, runs: &[(Run, Verdict)]) {
    *page += "<h2>Runs</h2><table><tr><th>seed<th>orders<th>confirmed<th>faults<th>kinds<th>absorbed<th>recovered\
              <th>drained<th>verdict</tr>";
    for (run, verdict) in runs {
        let counts = &verdict.counts;
        let _ = write!(
            page,
            "<tr><td><a href=\"#seed-{seed}\">{seed}</a><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.1} s<td>{}</tr>",
            counts.orders,
            counts.confirmed,
            counts.faults,
            counts.kinds_of_faults,
            counts.absorbed,
            counts.recovered,
            counts.drained_after_ms as f64 / 1e3,
            if verdict.holds() { "holds".to_owned() } else { escape(&verdict.violated().join(", ")) },
            seed = run.plan.seed,
        );
    }
    *page += "</table>";
}

/// How often each kind of fault was injected, and how often it bit.
fn kinds(page: &mut String, runs: &[(Run, Verdict)]) {
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for fault in runs.iter().flat_map(|(run, _)| &run.faults) {
        let (injected, bit) = kinds.entry(&fault.kind).or_default();
        *injected += 1;
        *bit += u64::from(fault.evidence.count > 0);
    }
    if kinds.is_empty() {
        return;
    }
    *page += "<h2>Faults</h2><table><tr><th>kind<th>injected<th>with evidence</tr>";
    for (kind, (injected, bit)) in kinds {
        let _ = write!(page, "<tr><td>{}<td>{injected}<td>{bit}</tr>", escape(kind));
    }
    *page += "</table>";
}

fn one(page: &mut String, run: &Run, verdict: &Verdict) {
    let seed = run.plan.seed;
    let _ = write!(page, "<h2 id=seed-{seed}>Seed {seed}</h2><p>{}</p>", escape(&verdict.summary()));
    charts(page, run);
    *page += "<table class=verdict><tr><th>invariant<th>what must hold<th>looked at<th></tr>";
    let (violated, fine): (Vec<_>, Vec<_>) = verdict.findings.iter().partition(|finding| finding.is_violated());
    for finding in violated.into_iter().chain(fine) {
        invariant(page, finding);
    }
    *page += "</table><details><summary>Every fault and what shows that it bit</summary><table>\
              <tr><th>at<th>for<th>kind<th>target<th>evidence</tr>";
    for fault in &run.faults {
        let _ = write!(
            page,
            "<tr><td>{:.1} s<td>{:.1} s<td>{}<td>{}<td>{}</tr>",
            fault.start_ms as f64 / 1e3,
            (fault.end_ms - fault.start_ms) as f64 / 1e3,
            escape(&fault.kind),
            escape(&fault.target),
            escape(&fault.evidence.text)
        );
    }
    *page += "</table></details>";
}

fn invariant(page: &mut String, Finding { invariant, says, outcome }: &Finding) {
    let (looked_at, class, text) = match outcome {
        Outcome::Holds { looked_at } => (looked_at.to_string(), "good", "holds".to_owned()),
        Outcome::NotApplicable { why } => ("–".to_owned(), "", escape(why)),
        Outcome::Violated { looked_at, count, violations } => {
            let shown = violations
                .iter()
                .map(|one| format!("<br>{} <code>{}</code>", escape(&one.what), escape(&one.ids.join(", "))));
            (looked_at.to_string(), "bad", format!("{count} violations{}", shown.collect::<String>()))
        }
    };
    let _ = write!(page, "<tr><td>{invariant}<td>{}<td>{looked_at}<td class={class:?}>{text}</tr>", escape(says));
}

fn charts(page: &mut String, run: &Run) {
    let end = run.history.iter().map(|entry| entry.monotonic_ms);
    let end = end.chain(run.faults.iter().map(|fault| fault.end_ms)).chain(run.samples.iter().map(|one| one.at_ms));
    let Some(end) = end.max().filter(|end| *end > 0) else { return };
    let chart = Chart { end_ms: end, faults: &run.faults };
    *page += &chart.faults();
    let operations = operations::of(&run.history);
    let answered = answered(&operations);
    let per_second = |all: &Vec<f64>| all.len() as f64 * 1e3 / BUCKET_MS as f64;
    *page += &chart.lines("orders accepted", "1/s", &[Line::new("", "a", bucketed(&answered, end, per_second))]);
    let quantile = |share: f64| {
        move |all: &Vec<f64>| {
            let mut all = all.clone();
            all.sort_by(f64::total_cmp);
            all.get(((all.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0.0)
        }
    };
    *page += &chart.lines(
        "until a customer was told, attempts included",
        "s",
        &[
            Line::new("99 %", "b", bucketed(&answered, end, quantile(0.99))),
            Line::new("median", "a", bucketed(&answered, end, quantile(0.5))),
        ],
    );
    let queued = run.samples.iter().filter_map(|one| Some((one.at_ms, one.queued? as f64)));
    *page += &chart.lines("messages in the queues", "", &[Line::new("", "a", queued.collect())]);
    let memory = run.samples.iter().map(|one| {
        (one.at_ms, one.processes.iter().map(|process| process.resident_bytes).sum::<u64>() as f64 / 1_048_576.0)
    });
    *page += &chart.lines("memory of all services", "MiB", &[Line::new("", "a", memory.collect())]);
}

/// When each order was accepted, and how many seconds after it was first asked for.
fn answered(operations: &[Operation<'_>]) -> Vec<(u64, f64)> {
    let orders = operations.iter().filter(|operation| matches!(operation.request, Request::Order { .. }));
    orders
        .filter_map(|operation| {
            let begin = operation.attempts.first()?.start_ms;
            let told = operation.attempts.iter().find_map(|attempt| match attempt.end {
                Some((at, What::Ok { .. })) => Some(at),
                _ => None,
            })?;
            Some((told, (told - begin) as f64 / 1e3))
        })
        .collect()
}

/// One figure for each bucket of time.
fn bucketed(all: &[(u64, f64)], end_ms: u64, figure: impl Fn(&Vec<f64>) -> f64) -> Vec<(u64, f64)> {
    let mut buckets = vec![Vec::new(); usize::try_from(end_ms / BUCKET_MS).unwrap_or(0) + 1];
    for (at, value) in all {
        if let Some(bucket) = usize::try_from(at / BUCKET_MS).ok().and_then(|place| buckets.get_mut(place)) {
            bucket.push(*value);
        }
    }
    (0..).zip(&buckets).map(|(place, all)| (place * BUCKET_MS, figure(all))).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_becomes_text() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }

    #[test]
    fn figures_are_of_their_bucket() {
        let counted = bucketed(&[(0, 1.0), (1_999, 1.0), (2_000, 1.0)], 4_000, |all| all.len() as f64);
        assert_eq!(counted, [(0, 2.0), (2_000, 1.0), (4_000, 0.0)]);
    }
}
