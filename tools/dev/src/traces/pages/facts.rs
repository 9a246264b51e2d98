//! Everything that is known of one span, behind its line.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use super::kind_name;
use crate::{
    endpoint::encode,
    http_server::escape,
    look,
    traces::{
        gaps::Gap,
        store::{Span, Status, Store, Value},
    },
};

/// More of them than anybody follows.
const LINKS_MAX: usize = 100;

/// What the page of one trace looks things up in.
pub(super) struct Context<'a> {
    pub(super) store: &'a Store,
    /// Of all traces, those that link to spans of this one.
    pub(super) links: &'a HashMap<String, Vec<Arc<Span>>>,
    pub(super) start_ns: u64,
}

pub(super) fn facts(span: &Span, gap: Option<&Gap>, context: &Context<'_>) -> String {
    let mut about = vec![
        ("begins after".to_owned(), look::duration(span.start_ns.saturating_sub(context.start_ns))),
        ("takes".to_owned(), look::duration(span.duration_ns())),
    ];
    if let Some(gap) = gap {
        about.push((gap.wait.name().to_owned(), look::duration(gap.duration_ns())));
    }
    about.push(("kind".to_owned(), kind_name(span.kind).to_owned()));
    match &span.status {
        Status::Unset => {}
        Status::Ok => about.push(("status".to_owned(), "ok".to_owned())),
        Status::Error(reason) => about.push(("error".to_owned(), reason.clone())),
    }
    about.push(("span".to_owned(), span.span_id.clone()));
    for (name, value) in [("made by", &span.scope), ("tracestate", &span.trace_state)] {
        if !value.is_empty() {
            about.push((name.to_owned(), value.clone()));
        }
    }
    format!(
        "<div class=facts><div><h3>Attributes</h3>{}</div><div><h3>Span</h3>{}{}{}<details><summary>Process: {}</summary>{}</details></div></div>",
        if span.attributes.is_empty() { "<p class=muted>none</p>".to_owned() } else { attributes(&span.attributes) },
        table(&about),
        events(span),
        links(span, context),
        escape(&span.resource.service),
        attributes(&span.resource.attributes),
    )
}

fn table(pairs: &[(String, String)]) -> String {
    let rows: String = pairs
        .iter()
        .map(|(name, value)| format!("<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value)))
        .collect();
    format!("<table>{rows}</table>")
}

fn attributes(attributes: &[(String, Value)]) -> String {
    table(&attributes.iter().map(|(name, value)| (name.clone(), value.text())).collect::<Vec<_>>())
}

fn events(span: &Span) -> String {
    let mut events = String::new();
    for event in &span.events {
        let after = look::duration(event.time_ns.saturating_sub(span.start_ns));
        let more: Vec<String> =
            event.attributes.iter().map(|(name, value)| format!("{name}={}", value.text())).collect();
        let _ = write!(
            events,
            "<tr><td>after {after}</td><td>{} <span class=muted>{}</span></td></tr>",
            escape(&event.name),
            escape(&more.join(" "))
        );
    }
    if events.is_empty() { events } else { format!("<h3>Events</h3><table>{events}</table>") }
}

/// Both ways: what it links to, and what links to it.
fn links(span: &Span, context: &Context<'_>) -> String {
    let to: Vec<_> = span.links.iter().map(|(trace, id)| (trace, id, context.store.span(trace, id))).collect();
    let from = context.links.get(&span.span_id).map(Vec::as_slice).unwrap_or_default();
    let from: Vec<_> = from.iter().map(|span| (&span.trace_id, &span.span_id, Some(Arc::clone(span)))).collect();
    let mut out = String::new();
    for (title, class, all) in [("Links to", "link-to", to), ("Linked from", "link-from", from)] {
        if all.is_empty() {
            continue;
        }
        let _ = write!(out, "<h3>{title} ({})</h3><table>", all.len());
        for (trace, id, other) in all.iter().take(LINKS_MAX) {
            let (name, service) = other.as_ref().map_or_else(
                || ("a span that is not here".to_owned(), String::new()),
                |other| (other.name.clone(), other.resource.service.clone()),
            );
            let place = if **trace == span.trace_id { "this trace" } else { trace.get(..8).unwrap_or(trace) };
            let _ = write!(
                out,
                "<tr><td>{}</td><td><a class={class} href=\"/trace/{}#span-{}\">{}</a> <span class=muted>in {}</span></td></tr>",
                escape(&service),
                encode(trace),
                encode(id),
                escape(&name),
                escape(place),
            );
        }
        out.push_str("</table>");
        if all.len() > LINKS_MAX {
            let _ = write!(out, "<p class=muted>and {} more</p>", all.len() - LINKS_MAX);
        }
    }
    out
}
