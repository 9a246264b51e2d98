//! Dots and curves as SVG. What is drawn is decided by the caller.

use std::fmt::Write as _;

use super::{escape, figure};
use crate::{Comparison, Record};

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 60.0;
const SPREAD_HEIGHT: f64 = 56.0;
const CURVES_HEIGHT: f64 = 150.0;
const CLASSES: [&str; 4] = ["a", "b", "c", "d"];

/// The ratio of each pair as a dot on one line from 0, with the median and the aim.
pub(super) fn spread(comparison: &Comparison) -> String {
    let aim = comparison.aim.ratio();
    let most = comparison.ratio.high.max(aim).max(1.0) * 1.1;
    let x = |ratio: f64| LEFT + (WIDTH - LEFT - 10.0) * ratio / most;
    let mut body = String::new();
    let _ = write!(body, "<line class=axis x1={LEFT} x2={WIDTH} y1=28 y2=28 />");
    for (class, at, says) in [("one", 1.0, "as the limit".to_owned()), ("aim", aim, format!("aim {}", comparison.aim))]
    {
        let x = x(at);
        let above = if class == "aim" { 10.0 } else { SPREAD_HEIGHT - 4.0 };
        let _ = write!(
            body,
            "<line class={class} x1={x:.1} x2={x:.1} y1=14 y2=42 /><text x={x:.1} y={above} class=middle>{says}</text>"
        );
    }
    for ratio in &comparison.ratio.all {
        let _ = write!(body, "<circle cx={:.1} cy=28 r=4><title>{ratio:.3}</title></circle>", x(*ratio));
    }
    let median = x(comparison.ratio.median);
    let _ = write!(body, "<line class=median x1={median:.1} x2={median:.1} y1=18 y2=38 />");
    format!(
        "<figure><figcaption>{}: {} to {} = {:.2}</figcaption><svg viewBox=\"0 0 {WIDTH} {SPREAD_HEIGHT}\">{body}</svg></figure>",
        escape(&comparison.what),
        escape(&comparison.measured.name),
        escape(&comparison.limit.name),
        comparison.ratio.median,
    )
}

/// Curves over what grows, from 0 upwards; the steps of x are equally wide, for they are usually powers.
pub(super) fn curves(record: &Record) -> String {
    let points = || record.curves.iter().flat_map(|(_, points)| points);
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let mut steps: Vec<f64> = points().map(|(x, _)| *x).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let wide = (WIDTH - LEFT - 60.0) / (steps.len().max(2) - 1) as f64;
    let x = |at: f64| LEFT + wide * steps.iter().position(|step| *step == at).unwrap_or(0) as f64;
    let y = |value: f64| CURVES_HEIGHT - 16.0 - (CURVES_HEIGHT - 30.0) * value / if most > 0.0 { most } else { 1.0 };
    let mut body = String::new();
    for (class, (_, points)) in CLASSES.iter().cycle().zip(&record.curves) {
        let path: String = points.iter().map(|(at, value)| format!("{:.1},{:.1} ", x(*at), y(*value))).collect();
        let _ = write!(body, "<polyline class={class} points=\"{path}\" />");
    }
    let _ = write!(
        body,
        "<text x={:.1} y=14 class=end>{}</text><text x={:.1} y={:.1} class=end>0</text>",
        LEFT - 4.0,
        figure(most),
        LEFT - 4.0,
        y(0.0)
    );
    // A long course is labelled at a dozen places.
    let every = steps.len().div_ceil(12).max(1);
    for step in steps.iter().step_by(every) {
        let _ = write!(body, "<text x={:.1} y={CURVES_HEIGHT} class=middle>{}</text>", x(*step), whole(*step));
    }
    let names: String = CLASSES
        .iter()
        .cycle()
        .zip(&record.curves)
        .map(|(class, (name, _))| format!(" <span class={class}>{}</span>", escape(name)))
        .collect();
    format!(
        "<figure><figcaption>{}, {} over {}:{names}</figcaption><svg viewBox=\"0 0 {WIDTH} {CURVES_HEIGHT}\">{body}</svg></figure>",
        escape(&record.what),
        escape(&record.unit),
        escape(&record.over),
    )
}

/// `20 M`, `200 k`, `7`.
fn whole(value: f64) -> String {
    match value {
        millions if millions >= 1e6 => format!("{} M", millions / 1e6),
        thousands if thousands >= 1e3 => format!("{} k", thousands / 1e3),
        _ => format!("{value}"),
    }
}
