//! Traces as a person reads them: a list to choose from, and one trace as a waterfall. Plain HTML; the details of a span open with
//! a click, without a script.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use mail_parser::DateTime;

use super::{
    jaeger,
    search::Search,
    store::{Span, Status, Value, tree},
};
use crate::{
    endpoint::encode,
    http_server::{Reply, escape, page},
};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:84rem;padding:0 1rem;color:#1c2733;background:#fff}\
 h1{font-size:1.25rem}a{color:#0b62c4;text-decoration:none}a:hover{text-decoration:underline}.muted{color:#5a6b7d}\
 table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #e3e8ee}\
 th{font-weight:600;color:#5a6b7d;font-size:.85rem}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
 form{display:flex;gap:.6rem;flex-wrap:wrap;align-items:end;margin:1rem 0}label{display:grid;font-size:.8rem;color:#5a6b7d}\
 input,select,button{font:inherit;padding:.25rem .5rem}.chip{display:inline-block;padding:0 .45rem;border-radius:3px;color:#fff;font-size:.8rem;margin-right:.3rem}\
 .span{border-bottom:1px solid #eef1f4}summary{display:grid;grid-template-columns:minmax(20rem,38%) 1fr;cursor:pointer;list-style:none;align-items:center}\
 summary::-webkit-details-marker{display:none}summary:hover{background:#f2f6fa}.name{white-space:nowrap;overflow:hidden;text-overflow:ellipsis;padding:.15rem .4rem .15rem 0}\
 .track{position:relative;height:1.5rem;border-left:1px solid #e3e8ee}.bar{position:absolute;top:.3rem;height:.9rem;min-width:2px;border-radius:2px}\
 .time{position:absolute;top:.05rem;font-size:.8rem;white-space:nowrap;font-variant-numeric:tabular-nums;padding:0 .3rem}\
 .bad{color:#c02626;font-weight:600}.facts{padding:.4rem 1rem .8rem 1.5rem;background:#f7f9fb}.facts table{width:auto}.facts td{border:0;padding:.05rem .8rem .05rem 0;\
 vertical-align:top;overflow-wrap:anywhere}.scale{display:grid;grid-template-columns:minmax(20rem,38%) 1fr;font-size:.8rem}.scale div:last-child{display:flex;justify-content:space-between}\
 @media(prefers-color-scheme:dark){body{background:#14191f;color:#dde5ed}a{color:#6cb1ff}td,th,.span,.track{border-color:#2a333d}.muted,th,label{color:#93a3b3}\
 summary:hover,.facts{background:#1d242c}.bad{color:#ff7b7b}}";

/// Told apart by name, the same on every page.
const COLOURS: [&str; 8] = ["#1f6feb", "#2a7f4f", "#a3560b", "#8b3fb0", "#0f7c86", "#b3326b", "#5c6b1f", "#4b5bb5"];

pub(super) fn list(services: &BTreeSet<String>, search: &Search, traces: &[Vec<Arc<Span>>]) -> Reply {
    let mut options = String::from("<option value=\"\">all</option>");
    for service in services {
        let selected = if search.service.as_ref() == Some(service) { " selected" } else { "" };
        let _ = write!(options, "<option{selected}>{}</option>", escape(service));
    }
    let mut rows = String::new();
    for spans in traces {
        let (start, duration) = extent(spans);
        let Some((_, root)) = tree(spans).into_iter().next() else { continue };
        let bad = spans.iter().filter(|span| matches!(span.status, Status::Error(_))).count();
        let bad = if bad == 0 { String::new() } else { format!("<span class=bad>{bad}</span>") };
        let involved: BTreeSet<&str> = spans.iter().map(|span| span.resource.service.as_str()).collect();
        let chips: String = involved.into_iter().map(chip).collect();
        let _ = write!(
            rows,
            "<tr><td class=muted>{}</td><td><a href=\"/trace/{}\">{}</a></td><td>{chips}</td><td class=n>{}</td><td class=n>{bad}</td>\
             <td class=n>{}</td></tr>",
            time(start),
            escape(&root.trace_id),
            escape(&root.name),
            spans.len(),
            milliseconds(duration),
        );
    }
    let operation = escape(search.operation.as_deref().unwrap_or_default());
    let result = if rows.is_empty() {
        "<p>No trace found. Make a request to a service, then look again.</p>".to_owned()
    } else {
        format!(
            "<table><tr><th>Begin (UTC)</th><th>Trace</th><th>Services</th><th class=n>Spans</th><th class=n>Errors</th>\
             <th class=n>Duration</th></tr>{rows}</table>"
        )
    };
    let body = format!(
        "<h1>Traces</h1><form action=\"/search\"><label>Service<select name=service>{options}</select></label>\
         <label>Operation<input name=operation value=\"{operation}\"></label>\
         <label>At least<input name=minDuration placeholder=\"100ms\" size=8></label>\
         <label>At most so many<input name=limit value=20 size=5></label><button>Find</button></form>{result}"
    );
    page(document("Traces", &body))
}

pub(super) fn trace(spans: &[Arc<Span>]) -> Reply {
    let (start, duration) = extent(spans);
    let rows: String = tree(spans).into_iter().map(|(depth, span)| row(depth, span, start, duration)).collect();
    let id = spans.first().map(|span| span.trace_id.clone()).unwrap_or_default();
    let name = tree(spans).first().map(|(_, root)| root.name.clone()).unwrap_or_default();
    let ticks: String =
        (0..=4).map(|quarter| format!("<span>{}</span>", milliseconds(duration / 4 * quarter))).collect();
    let body = format!(
        "<p><a href=\"/search\">← Traces</a></p><h1>{}</h1><p class=muted>{} UTC · {} spans · {} · trace {} · \
         <a href=\"/api/traces/{}\">JSON</a></p><div class=scale><div></div><div class=muted>{ticks}</div></div>{rows}",
        escape(&name),
        time(start),
        spans.len(),
        milliseconds(duration),
        escape(&id),
        encode(&id),
    );
    page(document(&name, &body))
}

pub(super) fn not_found(id: &str) -> Reply {
    let body = format!(
        "<p><a href=\"/search\">← Traces</a></p><h1>Trace {} is not here</h1><p>Its spans may be on their way: they are sent every few \
         seconds. Older traces make room for newer ones.</p>",
        escape(id)
    );
    let mut reply = page(document("Not found", &body));
    *reply.status_mut() = hyper::StatusCode::NOT_FOUND;
    reply
}

/// One span: a line of the waterfall that opens to all that is known of it.
fn row(depth: usize, span: &Span, trace_start: u64, trace_duration: u64) -> String {
    let share = |nanoseconds: u64| nanoseconds as f64 * 100.0 / trace_duration.max(1) as f64;
    let (left, width) = (share(span.start_ns.saturating_sub(trace_start)), share(span.duration_ns()));
    // The time stands beside the bar, on the side where there is room.
    let beside =
        if left + width < 85.0 { format!("left:{:.2}%", left + width) } else { format!("right:{:.2}%", 100.0 - left) };
    let bad = if matches!(span.status, Status::Error(_)) { " <span class=bad>error</span>" } else { "" };
    format!(
        "<details class=span><summary><span class=name style=\"padding-left:{}rem\">{}{}{bad}</span><span class=track>\
         <span class=bar style=\"left:{left:.3}%;width:{width:.3}%;background:{}\"></span><span class=time style=\"{beside}\">{}</span></span>\
         </summary>{}</details>",
        depth as f64 * 1.1,
        chip(&span.resource.service),
        escape(&span.name),
        colour(&span.resource.service),
        milliseconds(span.duration_ns()),
        facts(span, trace_start),
    )
}

fn facts(span: &Span, trace_start: u64) -> String {
    let mut rows = String::new();
    let mut add = |name: &str, value: &str| {
        let _ = write!(rows, "<tr><td class=muted>{}</td><td>{}</td></tr>", escape(name), escape(value));
    };
    add("begins after", &milliseconds(span.start_ns.saturating_sub(trace_start)));
    add("span", &span.span_id);
    if let Some(kind) = jaeger::kind(span.kind) {
        add("kind", kind);
    }
    if let Status::Error(reason) = &span.status {
        add("error", reason);
    }
    for (name, value) in &span.attributes {
        add(name, &value.text());
    }
    for event in &span.events {
        let more: Vec<String> =
            event.attributes.iter().map(|(name, value): &(String, Value)| format!("{name}={}", value.text())).collect();
        let after = milliseconds(event.time_ns.saturating_sub(span.start_ns));
        add(&format!("event after {after}"), &format!("{} {}", event.name, more.join(" ")));
    }
    for (trace, id) in &span.links {
        let _ = write!(
            rows,
            "<tr><td class=muted>linked to</td><td><a href=\"/trace/{}\">{}</a> span {}</td></tr>",
            encode(trace),
            escape(trace),
            escape(id)
        );
    }
    format!("<div class=facts><table>{rows}</table></div>")
}

/// Begin and duration of a whole trace, in nanoseconds.
fn extent(spans: &[Arc<Span>]) -> (u64, u64) {
    let start = spans.iter().map(|span| span.start_ns).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.end_ns).max().unwrap_or_default();
    (start, end.saturating_sub(start))
}

fn chip(service: &str) -> String {
    format!("<span class=chip style=\"background:{}\">{}</span>", colour(service), escape(service))
}

fn colour(service: &str) -> &'static str {
    let number = crate::workspace::fingerprint(service.as_bytes()) % COLOURS.len() as u64;
    usize::try_from(number).ok().and_then(|index| COLOURS.get(index)).copied().unwrap_or("#555")
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.2} ms", nanoseconds as f64 / 1e6)
}

fn time(nanoseconds: u64) -> String {
    let date = DateTime::from_timestamp(i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX));
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", date.year, date.month, date.day, date.hour, date.minute, date.second)
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>",
        escape(title)
    )
}
