//! Lines and bars over the time of a run, as SVG. What is drawn is decided by the caller.

use std::fmt::Write as _;

use super::escape;
use crate::ledger::Fault;

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 60.0;
const HEIGHT: f64 = 110.0;
const ROW: f64 = 15.0;
/// A fault that is over at once is still seen.
const NARROWEST: f64 = 3.0;
/// A name is written where there is room for it.
const LETTER: f64 = 6.0;

/// The frame of all charts of a run: the same time from left to right.
pub(super) struct Chart<'a> {
    pub(super) end_ms: u64,
    pub(super) faults: &'a [Fault],
}

/// A line of a chart.
pub(super) struct Line {
    name: &'static str,
    class: &'static str,
    points: Vec<(u64, f64)>,
}

impl Line {
    pub(super) fn new(name: &'static str, class: &'static str, points: Vec<(u64, f64)>) -> Self {
        Self { name, class, points }
    }
}

impl Chart<'_> {
    fn x(&self, at_ms: u64) -> f64 {
        LEFT + (WIDTH - LEFT) * at_ms as f64 / self.end_ms.max(1) as f64
    }

    /// The faults, each as a bar; those that are on at once below each other.
    pub(super) fn faults(&self) -> String {
        let mut rows: Vec<f64> = Vec::new();
        let mut bars = String::new();
        for fault in self.faults {
            let (from, to) = (self.x(fault.start_ms), self.x(fault.end_ms).max(self.x(fault.start_ms) + NARROWEST));
            let name = fault.kind.as_str();
            let written = to - from > name.len() as f64 * LETTER;
            let row = rows.iter().position(|end| *end <= from).unwrap_or(rows.len());
            match rows.get_mut(row) {
                Some(end) => *end = to,
                None => rows.push(to),
            }
            let y = row as f64 * ROW;
            let class = if fault.evidence.count > 0 { "fault" } else { "fault toothless" };
            let _ = write!(
                bars,
                "<g class=\"{class}\"><title>{} {}: {}</title><rect x={from:.1} y={y:.1} width={:.1} height={:.1} />",
                escape(name),
                escape(&fault.target),
                escape(&fault.evidence.text),
                to - from,
                ROW - 2.0
            );
            if written {
                let _ = write!(bars, "<text x={:.1} y={:.1}>{}</text>", from + 3.0, y + ROW - 5.0, escape(name));
            }
            bars += "</g>";
        }
        if rows.is_empty() {
            return String::new();
        }
        let height = rows.len() as f64 * ROW + 2.0;
        format!("<figure><figcaption>faults</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\">{bars}</svg></figure>")
    }

    /// Lines, with the faults behind them.
    pub(super) fn lines(&self, title: &str, unit: &str, lines: &[Line]) -> String {
        let most = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(0.0, f64::max);
        let y = |value: f64| HEIGHT - 14.0 - (HEIGHT - 24.0) * value / if most > 0.0 { most } else { 1.0 };
        let mut body = String::new();
        for fault in self.faults {
            let (from, to) = (self.x(fault.start_ms), self.x(fault.end_ms));
            let _ = write!(
                body,
                "<rect class=shade x={from:.1} y=0 width={:.1} height={} />",
                (to - from).max(1.0),
                HEIGHT - 14.0
            );
        }
        for Line { class, points, .. } in lines {
            let path: String =
                points.iter().map(|(at, value)| format!("{:.1},{:.1} ", self.x(*at), y(*value))).collect();
            let _ = write!(body, "<polyline class={class} points=\"{path}\" />");
        }
        let _ = write!(
            body,
            "<text x={:.1} y=12 class=end>{}</text><text x={:.1} y={:.1} class=end>0</text>\
             <text x={LEFT} y={HEIGHT}>0 s</text><text x={WIDTH} y={HEIGHT} class=end>{:.0} s</text>",
            LEFT - 4.0,
            figure(most),
            LEFT - 4.0,
            y(0.0),
            self.end_ms as f64 / 1e3
        );
        let names: String = lines
            .iter()
            .filter(|line| !line.name.is_empty())
            .map(|line| format!(" <span class={}>{}</span>", line.class, line.name))
            .collect();
        let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
        format!(
            "<figure><figcaption>{title}{unit}{names}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\">{body}</svg></figure>"
        )
    }
}

fn figure(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
