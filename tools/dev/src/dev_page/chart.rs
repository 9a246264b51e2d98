//! A small graph: lines over time, with a legend that says the latest values in words.

use std::{collections::BTreeSet, fmt::Write as _};

use super::prometheus::{Graph, Line, Unit};
use crate::{
    http_server::escape,
    look::{Colours, duration},
};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 110.0;
/// Room for what stands at the axes.
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 16.0;
const TOP: f64 = 6.0;
/// More lines than anybody can tell apart; the highest are shown.
const LINES_MAX: usize = 8;
/// Where the points of a line are further apart than so many steps, it has a hole.
const HOLE_STEPS: f64 = 3.0;
/// Kinds of strokes, so that colour is not all that tells lines apart.
const DASHES: usize = 4;

pub(super) fn chart(graph: &Graph) -> String {
    let mut lines: Vec<&Line> = graph.lines.iter().filter(|line| !line.points.is_empty()).collect();
    let highest = |line: &Line| line.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    lines.sort_by(|a, b| highest(b).total_cmp(&highest(a)));
    let hidden = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    let title = format!("<h3>{}</h3><p class=muted>{}</p>", escape(graph.title), escape(graph.note));
    if lines.is_empty() {
        return format!(
            "<section class=chart>{title}<p class=muted>Nothing has been measured in this time.</p></section>"
        );
    }
    let top = round_up(lines.iter().map(|line| highest(line)).fold(0.0, f64::max), graph.unit);
    let names: BTreeSet<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    let colours = Colours::of(names);
    let (mut drawn, mut legend) = (String::new(), String::new());
    for (number, line) in lines.iter().enumerate() {
        let class = format!("line {} d{}", colours.class(&line.name), number % DASHES);
        let name = escape(&line.name);
        let latest = line.points.last().map_or_else(String::new, |(_, value)| say(*value, graph.unit));
        let _ = write!(drawn, "<path class=\"{class}\" d=\"{}\"><title>{name}</title></path>", path(line, graph, top));
        let _ = write!(
            legend,
            "<li><svg viewBox=\"0 0 20 8\" aria-hidden=true><path class=\"{class}\" d=\"M0 4h20\"/></svg> {name} <b>{latest}</b></li>"
        );
    }
    if hidden > 0 {
        let _ = write!(legend, "<li class=muted>and {hidden} lower ones</li>");
    }
    format!(
        "<section class=chart>{title}<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\">{}{drawn}</svg><ul>{legend}</ul></section>",
        escape(graph.title),
        axes(graph, top)
    )
}

fn axes(graph: &Graph, top: f64) -> String {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - 2.0);
    let middle = (TOP + bottom) / 2.0;
    let minutes = (graph.to - graph.from) / 60;
    format!(
        "<path class=axis d=\"M{LEFT} {TOP}H{right}M{LEFT} {middle}H{right}M{LEFT} {bottom}H{right}\"/>\
         <text x={x} y={:.1} text-anchor=end>{}</text><text x={x} y={:.1} text-anchor=end>{}</text><text x={x} y={:.1} text-anchor=end>0</text>\
         <text x={LEFT} y={label}>{minutes} min ago</text><text x={right} y={label} text-anchor=end>now</text>",
        TOP + 4.0,
        say(top, graph.unit),
        middle + 4.0,
        say(top / 2.0, graph.unit),
        bottom + 3.0,
        x = LEFT - 5.0,
        label = HEIGHT - 3.0,
    )
}

fn path(line: &Line, graph: &Graph, top: f64) -> String {
    let length = (graph.to - graph.from).max(1) as f64;
    let step =
        line.points.windows(2).filter_map(|pair| Some(pair.last()?.0 - pair.first()?.0)).fold(f64::INFINITY, f64::min);
    let mut path = String::new();
    let mut before = f64::NEG_INFINITY;
    for (at, value) in &line.points {
        let x = LEFT + (at - graph.from as f64) / length * (WIDTH - 2.0 - LEFT);
        let y = HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP);
        // A point alone is seen as a short line.
        let (command, dot) = if at - before > step * HOLE_STEPS { ('M', "h.8") } else { ('L', "") };
        let _ = write!(path, "{command}{x:.1} {y:.1}{dot}");
        before = *at;
    }
    path
}

/// The top of the axis: a round number whose half is round too, and not so little that noise fills the picture.
fn round_up(highest: f64, unit: Unit) -> f64 {
    let least = match unit {
        Unit::Number | Unit::PerMinute => 4.0,
        Unit::PerSecond => 1.0,
        Unit::Seconds => 0.01,
        Unit::Share => 0.02,
    };
    let wanted = highest.max(least);
    let power = 10f64.powf(wanted.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|top| *top >= wanted * 0.999)
        .unwrap_or(wanted)
}

fn say(value: f64, unit: Unit) -> String {
    let number = |value: f64| match value.abs() {
        0.0 => "0".to_owned(),
        0.0..0.1 => format!("{value:.2}"),
        0.1..10.0 if value.fract().abs() > 0.005 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    match unit {
        Unit::Number => number(value),
        Unit::PerSecond => format!("{}/s", number(value)),
        Unit::PerMinute => format!("{}/min", number(value)),
        // The cast saturates, and a negative age is none.
        Unit::Seconds => match (value * 1e9) as u64 {
            0 => "0 s".to_owned(),
            nanoseconds => duration(nanoseconds),
        },
        Unit::Share => format!("{} %", number(value * 100.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(lines: Vec<Line>) -> Graph {
        Graph { title: "Requests", note: "per second", unit: Unit::PerSecond, lines, from: 1_000, to: 1_900 }
    }

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn a_line_goes_from_the_first_to_the_last_value_and_names_are_text() {
        let drawn = chart(&graph(vec![line("<users>", &[(1_000.0, 0.0), (1_450.0, 5.0), (1_900.0, 10.0)])]));
        assert!(drawn.contains("d=\"M46.0 94.0h.8L202.0 50.0L358.0 6.0\""), "{drawn}");
        assert!(drawn.contains("&lt;users&gt; <b>10/s</b>") && !drawn.contains("<users>"), "{drawn}");
    }

    #[test]
    fn a_line_has_a_hole_where_nothing_was_measured() {
        let drawn = chart(&graph(vec![line("a", &[(1_000.0, 1.0), (1_010.0, 1.0), (1_800.0, 1.0)])]));
        assert_eq!(drawn.matches("h.8").count(), 2, "{drawn}");
    }

    #[test]
    fn nothing_measured_is_said_and_the_highest_lines_are_kept() {
        assert!(chart(&graph(vec![])).contains("Nothing has been measured"));
        let many = (0..12).map(|number| line(&format!("s{number}"), &[(1_000.0, f64::from(number))])).collect();
        let drawn = chart(&graph(many));
        assert!(
            drawn.contains("s11 <b>") && !drawn.contains("s3 <b>") && drawn.contains("and 4 lower ones"),
            "{drawn}"
        );
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (highest, unit, top) in [(0.0, Unit::Number, 4.0), (7.3, Unit::Number, 8.0), (0.034, Unit::Seconds, 0.04)] {
            assert!((round_up(highest, unit) - top).abs() < 1e-9, "{highest}");
        }
        assert_eq!((say(0.25, Unit::Share), say(0.034, Unit::Seconds)), ("25 %".to_owned(), "34.0 ms".to_owned()));
    }
}
