//! One trace: a line for each span, its time as a bar, and between the bars the time in which something waited.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::{
    ICONS, NAVIGATION, extent,
    facts::{Context, facts},
    icon, kind_name,
};
use crate::{
    endpoint::encode,
    http_server::{Reply, escape},
    look::{self, Colours, Page},
    traces::{
        gaps::{Gap, Wait, gaps},
        store::{Kind, Span, Store},
        tree::{Node, tree},
    },
};

/// More lines than anybody reads; a browser becomes slow with many more.
const ROWS_MAX: usize = 2_000;
/// Deeper spans are no longer moved to the right.
const GUIDES_MAX: usize = 32;
const GUIDE_PX: usize = 8;
const PATTERNS: &str = "<pattern id=hatch-dwell class=hatch width=6 height=6 patternUnits=userSpaceOnUse><path d=\"M0 6L6 0\"/></pattern>\
    <pattern id=hatch-transit class=hatch width=6 height=6 patternUnits=userSpaceOnUse><path d=\"M0 0L6 6\"/></pattern>\
    <pattern id=hatch-waiting class=hatch width=4 height=4 patternUnits=userSpaceOnUse><path d=\"M2 0V4\"/></pattern>";

pub(in crate::traces) fn trace(spans: &[Arc<Span>], store: &Store) -> Reply {
    let nodes = tree(spans);
    let Some(root) = nodes.first().map(|node| node.span) else { return super::not_found("") };
    let links = store.links_to(&root.trace_id);
    let gaps = gaps(&nodes, &links);
    let (start_ns, duration) = extent(spans);
    let last = gaps.iter().flatten().map(|gap| gap.to_ns.saturating_sub(start_ns)).max().unwrap_or_default();
    let picture = Picture {
        colours: Colours::of(spans.iter().map(|span| span.resource.service.as_str())),
        start_ns,
        length_ns: duration.max(last).max(1),
    };
    let context = Context { store, links: &links, start_ns };
    let sql = Sql::of(&nodes);
    let rows: String = nodes
        .iter()
        .zip(&gaps)
        .zip(guides(&nodes))
        .take(ROWS_MAX)
        .map(|((node, gap), guides)| row(node, &guides, gap.as_ref(), &sql, &picture, &context))
        .collect();
    let more = if nodes.len() > ROWS_MAX {
        format!("<p class=note>{} more spans are in the JSON only.</p>", nodes.len() - ROWS_MAX)
    } else {
        String::new()
    };
    let body = format!(
        "<svg class=defs aria-hidden=true><defs>{ICONS}{PATTERNS}</defs></svg>{}<div class=rows>{rows}</div>{more}",
        head(root, spans, &gaps, &sql, &picture)
    );
    Page { title: &root.name, navigation: NAVIGATION, scripts: &["trace.js"], body, ..Page::default() }.reply()
}

/// Where in the picture a moment is.
struct Picture {
    colours: Colours,
    start_ns: u64,
    length_ns: u64,
}

impl Picture {
    fn percent(&self, moment_ns: u64) -> f64 {
        self.length(moment_ns.saturating_sub(self.start_ns))
    }

    fn length(&self, nanoseconds: u64) -> f64 {
        nanoseconds as f64 * 100.0 / self.length_ns as f64
    }
}

/// Statements that can be left out of the picture: those that nothing is below, and that went well.
struct Sql {
    count: usize,
    /// By the span that they are below: how many, and how long together.
    of: BTreeMap<String, (usize, u64)>,
}

impl Sql {
    fn of(nodes: &[Node<'_>]) -> Self {
        let mut sql = Self { count: 0, of: BTreeMap::new() };
        for node in nodes.iter().filter(|node| hides(node)) {
            sql.count += 1;
            if let Some(parent) = node.parent {
                let (count, total) = sql.of.entry(parent.span_id.clone()).or_default();
                *count += 1;
                *total += node.span.duration_ns();
            }
        }
        sql
    }
}

fn hides(node: &Node<'_>) -> bool {
    node.span.is_sql() && node.below == 0 && node.parent.is_some() && !node.span.failed()
}

fn head(root: &Span, spans: &[Arc<Span>], gaps: &[Option<Gap>], sql: &Sql, picture: &Picture) -> String {
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    for span in spans {
        *services.entry(&span.resource.service).or_default() += 1;
    }
    let chips: String = services.keys().map(|service| picture.colours.chip(service)).collect();
    let failed: Vec<_> = spans.iter().filter(|span| span.failed()).collect();
    let errors = match failed.first() {
        Some(first) => format!(
            "<a class=bad href=\"#span-{}\">{}</a>",
            encode(&first.span_id),
            look::count(failed.len(), "error", "errors")
        ),
        None => "<span class=muted>no errors</span>".to_owned(),
    };
    let (_, duration) = extent(spans);
    let idle = idle_ns(spans);
    let idle = if idle == 0 {
        String::new()
    } else {
        format!(
            "<span title=\"Nobody worked: events were in the outbox or in a queue, jobs waited\">{} ({}) waiting</span>",
            look::duration(idle),
            look::percent(idle, duration)
        )
    };
    let id = &root.trace_id;
    format!(
        "<header class=sticky><h1>{}</h1><div class=totals><b>{}</b>{idle}<span>{}</span><span>{}</span>{errors}\
         <span class=muted>{} UTC</span><span class=\"mono muted\">{}</span><a href=\"/api/traces/{}\">JSON</a></div>\
         <div class=tools><span class=chips>{chips}</span>{}{}\
         <button class=script-only type=button data-fold=all>Fold all</button>\
         <button class=script-only type=button data-fold=none>Unfold all</button></div>{}{}</header>",
        escape(&root.name),
        look::duration(duration),
        look::count(spans.len(), "span", "spans"),
        look::count(services.len(), "service", "services"),
        look::time(picture.start_ns),
        escape(id),
        encode(id),
        switch("show-sql", sql.count, &format!("{} of SQL", look::count(sql.count, "span", "spans"))),
        switch("failed-only", failed.len(), "only what failed"),
        legend(spans, gaps),
        ruler(picture),
    )
}

/// A box to tick, where there is something to tick it for. The stylesheet does what it says.
fn switch(id: &str, count: usize, text: &str) -> String {
    if count == 0 { String::new() } else { format!("<label><input type=checkbox id={id}>{text}</label>") }
}

/// What the signs mean, as far as this trace has them.
fn legend(spans: &[Arc<Span>], gaps: &[Option<Gap>]) -> String {
    let mut signs = String::new();
    for kind in [Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer, Kind::Internal] {
        if spans.iter().any(|span| span.kind == kind) {
            let _ = write!(signs, "<span>{}{}</span>", icon(kind), kind_name(kind));
        }
    }
    for wait in [Wait::Dwell, Wait::Transit, Wait::Delivery, Wait::Turn, Wait::Retry] {
        if gaps.iter().flatten().any(|gap| gap.wait == wait) {
            let _ = write!(
                signs,
                "<span title=\"{}\"><svg class=sample aria-hidden=true><rect class=gap width=26 height=10 fill=\"url(#{})\"/></svg>{}</span>",
                wait.meaning(),
                hatch(wait),
                wait.sign()
            );
        }
    }
    format!("<div class=legend>{signs}</div>")
}

fn hatch(wait: Wait) -> &'static str {
    match wait {
        Wait::Dwell => "hatch-dwell",
        Wait::Transit | Wait::Delivery => "hatch-transit",
        Wait::Turn | Wait::Retry => "hatch-waiting",
    }
}

fn ruler(picture: &Picture) -> String {
    let ticks: String = (0..=4u64)
        .map(|quarter| {
            let anchor = match quarter {
                0 => "start",
                4 => "end",
                _ => "middle",
            };
            let at = look::duration(picture.length_ns / 4 * quarter);
            let at = if quarter == 0 { "0" } else { &at };
            format!("<text x=\"{}%\" y=12 text-anchor={anchor}>{at}</text>", quarter * 25)
        })
        .collect();
    format!("<div class=ruler aria-hidden=true><svg>{ticks}</svg></div>")
}

/// One span: a line of the waterfall that opens to all that is known of it.
fn row(
    node: &Node<'_>,
    guides: &str,
    gap: Option<&Gap>,
    sql: &Sql,
    picture: &Picture,
    context: &Context<'_>,
) -> String {
    let span = node.span;
    let mut class = String::from("row");
    for (applies, name) in [(span.failed(), " failed"), (hides(node), " sql")] {
        if applies {
            class.push_str(name);
        }
    }
    let (fold, folded) = if node.below == 0 {
        (String::new(), String::new())
    } else {
        let below = look::count(node.below, "span", "spans");
        let label = escape(&format!("{below} below {}", span.name));
        (
            format!(
                "<button type=button class=\"fold script-only\" aria-expanded=true aria-label=\"{label}\"></button>"
            ),
            format!("<span class=more>+ {below}</span>"),
        )
    };
    format!(
        "<div class=\"{class}\" id=\"span-{}\" data-depth={}><span>{fold}</span><span class=kind>{}</span><details><summary>\
         <span class=name>{guides}{}<span class=what title=\"{name}\">{name}</span>{}{folded}</span>{}</summary>{}</details></div>",
        escape(&span.span_id),
        node.depth,
        icon(span.kind),
        picture.colours.chip(&span.resource.service),
        marks(span, sql, context),
        track(span, gap, picture),
        facts(span, gap, context),
        name = escape(if span.name.is_empty() { "(no name)" } else { &span.name }),
    )
}

/// For each node the lines that lead to it from the span that it is part of, past those that are part of something else.
fn guides(nodes: &[Node<'_>]) -> Vec<String> {
    let mut all = Vec::with_capacity(nodes.len());
    // By depth, whether something of that depth and the same parent follows.
    let mut follows: Vec<bool> = Vec::new();
    for node in nodes.iter().rev() {
        let depth = node.depth.min(GUIDES_MAX);
        let mut lines = String::new();
        for level in 1..depth {
            if follows.get(level) == Some(&true) {
                let _ = write!(lines, "M{}.5 0v24", level * GUIDE_PX - 4);
            }
        }
        if depth > 0 {
            let down = if follows.get(depth) == Some(&true) { 24 } else { 12 };
            let x = depth * GUIDE_PX - 4;
            let _ = write!(lines, "M{x}.5 0v{down}M{x} 12.5h6");
        }
        follows.resize(depth + 1, false);
        // Statements may be hidden: no line leads to nothing.
        if let Some(follows) = follows.get_mut(depth) {
            *follows |= !hides(node);
        }
        let width = depth * GUIDE_PX + 2;
        all.push(format!("<svg class=guides aria-hidden=true width={width} height=24><path d=\"{lines}\"/></svg>"));
    }
    all.reverse();
    all
}

/// What is worth knowing before anybody opens the line.
fn marks(span: &Span, sql: &Sql, context: &Context<'_>) -> String {
    let mut marks = String::new();
    if span.failed() {
        marks.push_str("<span class=\"tag bad\">error</span>");
    }
    if let Some(attempt) = span.text("postrider.attempt").and_then(|text| text.parse::<u64>().ok())
        && attempt > 1
    {
        let _ = write!(marks, "<span class=\"tag warn\">attempt {attempt}</span>");
    }
    if let Some(outcome) = span.text("postrider.outcome").filter(|outcome| outcome != "handled") {
        let _ = write!(marks, "<span class=\"tag warn\">{}</span>", escape(&outcome));
    }
    let links = span.links.len() + context.links.get(&span.span_id).map_or(0, Vec::len);
    if links > 0 {
        let _ = write!(marks, "<span class=tag>{}</span>", look::count(links, "link", "links"));
    }
    if let Some((count, total)) = sql.of.get(&span.span_id) {
        let _ = write!(marks, "<span class=tag>{count} SQL · {}</span>", look::duration(*total));
    }
    marks
}

/// The bar of a span in the time of the trace. Its shape tells its kind: hollow for a client, thin inside of a process, with a point
/// that leaves or enters for a message.
fn track(span: &Span, gap: Option<&Gap>, picture: &Picture) -> String {
    let (left, width) = (picture.percent(span.start_ns), picture.length(span.duration_ns()));
    let colour = picture.colours.class(&span.resource.service);
    let failed = if span.failed() { " failed" } else { "" };
    let client = if span.kind == Kind::Client { " client" } else { "" };
    let (y, height) = if span.kind == Kind::Internal { (9, 6) } else { (7, 10) };
    let grid: String =
        [25, 50, 75].iter().map(|at| format!("<line class=grid x1=\"{at}%\" x2=\"{at}%\" y2=24 />")).collect();
    let point = match span.kind {
        Kind::Producer => "M0 5l9 7-9 7z",
        Kind::Consumer => "M9 5L0 12l9 7z",
        _ => "",
    };
    let point = if point.is_empty() {
        String::new()
    } else {
        format!("<svg x=\"{left:.3}%\"><path class=\"point {colour}\" d=\"{point}\"/></svg>")
    };
    let mut label = look::duration(span.duration_ns());
    let (mut from, mut to, mut hatched) = (left, left + width, String::new());
    if let Some(gap) = gap {
        let (begin, end) = (picture.percent(gap.from_ns), picture.percent(gap.to_ns));
        (from, to) = (from.min(begin), to.max(end));
        let time = look::duration(gap.duration_ns());
        let _ = write!(label, " · {} {time}", gap.wait.name());
        hatched = format!(
            "<rect class=\"gap {}\" x=\"{begin:.3}%\" y=9 width=\"{:.3}%\" height=6 fill=\"url(#{})\"><title>{} {time}</title></rect>",
            hatch(gap.wait),
            end - begin,
            hatch(gap.wait),
            gap.wait.name(),
        );
    }
    // The times stand where there is room.
    let (at, anchor, shift) = if to < 72.0 { (to, "start", 12) } else { (from, "end", -6) };
    format!(
        "<svg class=track aria-hidden=true>{grid}{hatched}<rect class=\"bar {colour}{client}{failed}\" x=\"{left:.3}%\" y={y} \
         width=\"{width:.3}%\" height={height} rx=1 />{point}<text x=\"{at:.3}%\" y=16 dx={shift} text-anchor={anchor}>{label}</text></svg>"
    )
}

/// How long no span was at work, between the first and the last.
fn idle_ns(spans: &[Arc<Span>]) -> u64 {
    let mut idle = 0;
    let mut busy_until = u64::MAX;
    for span in spans {
        if span.start_ns > busy_until {
            idle += span.start_ns - busy_until;
        }
        busy_until = if busy_until == u64::MAX { span.end_ns } else { busy_until.max(span.end_ns) };
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::store::tests::span;

    #[test]
    fn lines_lead_from_a_span_to_those_below_it_and_end_at_the_last() {
        let spans: Vec<_> = [
            span("1", "a", "", "a", 0, 10),
            span("1", "b", "a", "b", 1, 5),
            span("1", "c", "b", "c", 2, 3),
            span("1", "d", "a", "d", 6, 7),
        ]
        .map(Arc::new)
        .into();
        let guides = guides(&tree(&spans));
        let lines: Vec<_> = guides.iter().map(|guide| guide.split('"').nth(1).unwrap()).collect();
        assert_eq!(lines, ["", "M4.5 0v24M4 12.5h6", "M4.5 0v24M12.5 0v12M12 12.5h6", "M4.5 0v12M4 12.5h6"]);
    }

    #[test]
    fn time_in_which_no_span_is_at_work_is_added_up() {
        let spans: Vec<_> = [
            span("1", "a", "", "a", 0, 10),
            span("1", "b", "a", "b", 2, 30),
            span("1", "c", "a", "c", 50, 60),
            span("1", "d", "a", "d", 55, 56),
            span("1", "e", "a", "e", 61, 70),
        ]
        .map(Arc::new)
        .into();
        assert_eq!(idle_ns(&spans), 20 + 1);
        assert_eq!(idle_ns(&spans[..2]), 0);
    }
}
