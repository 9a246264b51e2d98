//! Everything on one page for people: the verdicts, what they rest on, and how the figures spread. The page needs nothing but itself.

mod chart;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{Comparison, Machine, Measurement, Verdict};

const STYLE: &str = include_str!("report/style.css");

/// Everything that was measured in one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What repeats it.
    pub command: String,
    /// On what.
    pub machine: Machine,
    /// What came of it.
    pub measurements: Vec<Measurement>,
}

impl Report {
    /// Whether every measurement was right. Aims that were missed do not count.
    #[must_use]
    pub fn is_correct(&self) -> bool {
        self.measurements.iter().all(Measurement::is_correct)
    }

    /// All of it in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let comparisons = || self.measurements.iter().flat_map(|measurement| &measurement.comparisons);
        let reached = comparisons().filter(|comparison| comparison.verdict == Verdict::Reached).count();
        let looked_at: u64 =
            self.measurements.iter().flat_map(|measurement| &measurement.checks).map(|check| check.looked_at).sum();
        let wrong: Vec<_> =
            self.measurements.iter().filter(|one| !one.is_correct()).map(|one| &*one.scenario).collect();
        format!(
            "{reached} of {} aims reached; {looked_at} things looked at, {}",
            comparisons().count(),
            if wrong.is_empty() { "all right".to_owned() } else { format!("wrong in: {}", wrong.join(", ")) }
        )
    }
}

/// The page.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Bench</title><style>{STYLE}</style></head><body><main><h1>Bench</h1><p class={}>{}</p>\
         <p>Each thing is measured in turn with its limit, the least program that does the same without our code. Only ratios of neighbours \
         are compared; times are this machine's.</p><p>Again: <code>{}</code></p>",
        if report.is_correct() { "good" } else { "bad" },
        escape(&report.summary()),
        escape(&report.command)
    );
    page += "<table><tr><th>scenario<th>what<th>ours<th>limit<th>ratio<th>spread<th>aim<th></tr>";
    for measurement in &report.measurements {
        for comparison in &measurement.comparisons {
            row(&mut page, measurement, comparison);
        }
    }
    page += "</table>";
    for measurement in &report.measurements {
        one(&mut page, measurement);
    }
    page += "<h2>The machine</h2><table>";
    for (of, fact) in &report.machine.facts {
        let _ = write!(page, "<tr><th>{}<td>{}</tr>", escape(of), escape(fact));
    }
    page += "</table></main></body></html>\n";
    page
}

fn row(page: &mut String, measurement: &Measurement, comparison: &Comparison) {
    let Comparison { what, unit, measured, limit, ratio, aim, verdict } = comparison;
    let class = if *verdict == Verdict::Reached { "good" } else { "bad" };
    let scenario = escape(&measurement.scenario);
    let _ = write!(
        page,
        "<tr><td><a href=\"#{scenario}\">{scenario}</a><td>{}<td>{} {unit}<td>{} {unit}<td class={class}>{:.2}<td>{:.2}–{:.2} in {}<td>{aim}\
         <td class={class}>{word}</tr>",
        escape(what),
        figure(measured.median()),
        figure(limit.median()),
        ratio.median,
        ratio.low,
        ratio.high,
        ratio.all.len(),
        unit = escape(unit),
        word = comparison.outcome().to_lowercase(),
    );
}

fn one(page: &mut String, measurement: &Measurement) {
    let name = escape(&measurement.scenario);
    let says = escape(&measurement.says);
    let _ = write!(page, "<h2 id=\"{name}\">{name}</h2><p>{says} ({:.0} s)</p>", measurement.seconds);
    for comparison in &measurement.comparisons {
        *page += &chart::spread(comparison);
    }
    for record in &measurement.records {
        *page += &chart::curves(record);
    }
    if !measurement.notes.is_empty() {
        *page += "<ul>";
        for note in &measurement.notes {
            let _ = write!(page, "<li>{}</li>", escape(note));
        }
        *page += "</ul>";
    }
    *page += "<table><tr><th>what must hold<th>looked at<th></tr>";
    for check in &measurement.checks {
        let (class, text) = match (check.holds(), check.looked_at) {
            (true, 0) => ("bad", "nothing was looked at".to_owned()),
            (true, _) => ("good", "holds".to_owned()),
            (false, _) => ("bad", check.violations.join("; ")),
        };
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td class={class}>{}</tr>",
            escape(&check.says),
            check.looked_at,
            escape(&text)
        );
    }
    *page += "</table>";
}

/// As many digits as there is something behind.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Aim, Side};

    fn sample() -> Report {
        let mut relay = Measurement::new("relay", "a <backlog>");
        relay.compare(
            "events",
            "1/s",
            Side::new("ours", &[9.0, 9.5]),
            Side::new("loop", &[10.0, 10.0]),
            Aim::AtLeast(0.9),
        );
        relay.record("cost", "ms", "rows", vec![("relay".to_owned(), vec![(1.0, 2.0), (10.0, 2.5)])]);
        relay.check("nothing is lost", 2, Vec::new());
        Report { command: "cargo dev bench".to_owned(), machine: Machine::look(), measurements: vec![relay] }
    }

    #[test]
    fn the_page_says_it_all_and_needs_nothing_else() {
        let page = report(&sample());
        for text in ["1 of 1 aims reached", "a &lt;backlog&gt;", "≥ 0.9", "nothing is lost", "<polyline", "<circle"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        for outside in ["src=", "http:", "https:", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_run_that_is_quick_and_wrong_is_wrong() {
        let mut wrong = sample();
        wrong.measurements[0].check("nothing is lost", 1, vec!["one is".to_owned()]);
        assert!(!wrong.is_correct());
        assert!(wrong.summary().ends_with("wrong in: relay"), "{}", wrong.summary());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let text = serde_json::to_string(&sample()).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(report(&read), report(&sample()));
    }
}
