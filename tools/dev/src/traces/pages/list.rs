//! The page that finds traces. What was asked for is in its address, so that a search can be sent to somebody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use hyper::StatusCode;

use super::{NAVIGATION, extent};
use crate::{
    http_server::{Ask, Reply, escape},
    look::{self, Colours, Page},
    traces::{store::Span, tree::tree},
};

const WINDOWS: [(&str, &str); 6] = [
    ("", "any time"),
    ("5m", "in the last 5 minutes"),
    ("15m", "in the last 15 minutes"),
    ("1h", "in the last hour"),
    ("6h", "in the last 6 hours"),
    ("1d", "in the last day"),
];
/// As many as a browser offers without becoming slow.
const OPERATIONS_MAX: usize = 300;

/// What there is to choose from, and what was found.
pub(in crate::traces) struct Found {
    pub(in crate::traces) services: BTreeSet<String>,
    /// Of the chosen service, or of all.
    pub(in crate::traces) operations: BTreeSet<String>,
    /// `Err` names the parameter that makes no sense.
    pub(in crate::traces) traces: Result<Vec<Vec<Arc<Span>>>, String>,
    pub(in crate::traces) limit: usize,
}

pub(in crate::traces) fn list(ask: &Ask, found: &Found) -> Reply {
    let colours = Colours::of(found.services.iter().map(String::as_str));
    let (status, result) = match &found.traces {
        Err(reason) => (StatusCode::BAD_REQUEST, format!("<p class=\"note bad\" role=alert>{}</p>", escape(reason))),
        Ok(traces) if traces.is_empty() => (StatusCode::OK, nothing(found.services.is_empty()).to_owned()),
        Ok(traces) => (StatusCode::OK, table(traces, found.limit, &colours)),
    };
    let body = format!("<h1>Traces</h1>{}{result}", form(ask, found));
    let mut reply = Page { title: "Traces", navigation: NAVIGATION, here: "/search", body, ..Page::default() }.reply();
    *reply.status_mut() = status;
    reply
}

fn nothing(at_all: bool) -> &'static str {
    if at_all {
        "<p class=note>No trace has arrived yet. Make a request to a service, then look again: spans are sent every few seconds.</p>"
    } else {
        "<p class=note>No trace is like that. One span of it must have everything that is asked for; ask for less, or look again \
         in a few seconds.</p>"
    }
}

fn form(ask: &Ask, found: &Found) -> String {
    let given = |name: &str| escape(ask.query(name).unwrap_or_default());
    let options = |chosen: &str, all: &mut dyn Iterator<Item = (&str, &str)>| -> String {
        all.map(|(value, text)| {
            let selected = if value == chosen { " selected" } else { "" };
            format!("<option value=\"{}\"{selected}>{}</option>", escape(value), escape(text))
        })
        .collect()
    };
    let services = found.services.iter().map(|name| (name.as_str(), name.as_str()));
    let services =
        options(ask.query("service").unwrap_or_default(), &mut std::iter::once(("", "all services")).chain(services));
    let windows = options(ask.query("lookback").unwrap_or_default(), &mut WINDOWS.into_iter());
    let operations: String = found
        .operations
        .iter()
        .take(OPERATIONS_MAX)
        .map(|name| format!("<option value=\"{}\"></option>", escape(name)))
        .collect();
    let errors = if ask.query("errors").is_some_and(|errors| errors != "false") { " checked" } else { "" };
    // A window that came in the address stays in it.
    let mut fixed = String::new();
    for name in ["start", "end"] {
        if let Some(value) = ask.query(name) {
            let _ = write!(fixed, "<input type=hidden name={name} value=\"{}\">", escape(value));
        }
    }
    format!(
        "<form class=search action=\"/search\">\
         <label>Service<select name=service>{services}</select></label>\
         <label class=two>Operation<input name=operation list=operations value=\"{}\" placeholder=\"any\" autocomplete=off>\
         <datalist id=operations>{operations}</datalist></label>\
         <label class=two>Tags<input name=tags value=\"{}\" placeholder='http.response.status_code=409 postrider.key=\"…\"' \
         autocomplete=off spellcheck=false></label>\
         <label>Takes at least<input name=minDuration value=\"{}\" placeholder=\"100ms\"></label>\
         <label>Takes at most<input name=maxDuration value=\"{}\" placeholder=\"1.5s\"></label>\
         <label>Began<select name=lookback>{windows}</select></label>\
         <label>At most so many<input name=limit type=number min=1 max=1500 value=\"{}\"></label>\
         <label class=check><input type=checkbox name=errors value=true{errors}>with an error</label>\
         {fixed}<button class=main>Find traces</button></form>\
         <form class=inline action=\"/trace\"><label for=id class=muted>or by its id</label>\
         <input id=id name=id size=44 required pattern=\"[0-9a-fA-F]{{1,32}}\" placeholder=\"from a traceparent, a problem, a log line\" \
         autocomplete=off spellcheck=false><button>Open</button></form>",
        given("operation"),
        given("tags"),
        given("minDuration"),
        given("maxDuration"),
        found.limit,
    )
}

fn table(traces: &[Vec<Arc<Span>>], limit: usize, colours: &Colours) -> String {
    let longest = traces.iter().map(|spans| extent(spans).1).max().unwrap_or_default();
    let rows: String = traces.iter().map(|spans| row(spans, longest, colours)).collect();
    let more = if traces.len() == limit { "; there may be more" } else { "" };
    format!(
        "<p class=muted role=status>{}, the newest first{more}.</p><table class=results><thead><tr><th>Began (UTC)</th><th>Trace</th>\
         <th class=\"n hide-narrow\">Spans</th><th class=n>Errors</th><th class=length>Duration</th></tr></thead>\
         <tbody>{rows}</tbody></table>",
        look::count(traces.len(), "trace", "traces"),
    )
}

fn row(spans: &[Arc<Span>], longest: u64, colours: &Colours) -> String {
    let (start, duration) = extent(spans);
    let nodes = tree(spans);
    let Some(root) = nodes.first().map(|node| node.span) else { return String::new() };
    let failed = spans.iter().filter(|span| span.failed()).count();
    let failed = if failed == 0 {
        "<span class=muted>–</span>".to_owned()
    } else {
        format!("<span class=\"tag bad\">{}</span>", look::count(failed, "error", "errors"))
    };
    let mut involved: BTreeMap<&str, usize> = BTreeMap::new();
    for span in spans {
        *involved.entry(&span.resource.service).or_default() += 1;
    }
    let chips: String = involved.into_keys().map(|service| colours.chip(service)).collect();
    let share = duration as f64 * 100.0 / longest.max(1) as f64;
    format!(
        "<tr><td class=\"when muted\">{}</td><td><a class=root href=\"/trace/{}\">{}</a><div class=chips>{chips}</div></td>\
         <td class=\"n hide-narrow\">{}</td><td class=n>{failed}</td>\
         <td class=length>{}<svg aria-hidden=true><rect class={} width=\"{:.2}%\" height=6 rx=1 /></svg></td></tr>",
        look::time(start),
        escape(&root.trace_id),
        escape(name_or(&root.name)),
        spans.len(),
        look::duration(duration),
        colours.class(&root.resource.service),
        share.max(0.4),
    )
}

fn name_or(name: &str) -> &str {
    if name.trim().is_empty() { "(no name)" } else { name }
}
