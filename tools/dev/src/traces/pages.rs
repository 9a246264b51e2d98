//! Traces as a person reads them: a list to choose from, one trace as a waterfall, and the map of services. HTML and SVG written
//! here; everything can be read without the script, which folds subtrees and moves between spans by keyboard.

mod facts;
mod list;
mod map;
mod waterfall;

use std::sync::Arc;

use hyper::StatusCode;

use super::store::{Kind, Span};
use crate::{
    http_server::{Ask, Reply, asset, escape},
    look::{self, Page, Stack},
};

pub(super) use list::{Found, list};
pub(super) use map::map;
pub(super) use waterfall::trace;

const NAVIGATION: &[(&str, &str)] = &[Stack::LINK, ("/search", "Traces"), ("/map", "Map of services")];

/// A file that a page needs; `None` for any other path.
pub(super) fn asset_of(ask: &Ask) -> Option<Reply> {
    if ask.path == ["assets", "trace.js"] {
        return Some(asset("text/javascript; charset=utf-8", include_str!("pages/trace.js")));
    }
    look::shared_asset(ask)
}

pub(super) fn not_found(id: &str) -> Reply {
    let body = format!(
        "<h1>Trace {} is not here</h1><p>Its spans may be on their way: they are sent every few seconds. Older traces make room for \
         newer ones, and none is kept when the stack is stopped.</p><p><a href=\"\">Look again</a></p>",
        escape(id)
    );
    let mut reply = Page { title: "Not found", navigation: NAVIGATION, body, ..Page::default() }.reply();
    *reply.status_mut() = StatusCode::NOT_FOUND;
    reply
}

/// Begin and duration of a whole trace, in nanoseconds.
fn extent(spans: &[Arc<Span>]) -> (u64, u64) {
    let start = spans.iter().map(|span| span.start_ns).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.end_ns).max().unwrap_or_default();
    (start, end.saturating_sub(start))
}

/// What a kind is called, also where it has no name in Jaeger.
fn kind_name(kind: Kind) -> &'static str {
    super::jaeger::kind(kind).unwrap_or("internal")
}

/// Symbols of the kinds, once in a page; [`icon`] shows one.
const ICONS: &str = "<symbol id=k-server viewBox=\"0 0 16 16\"><path d=\"M2 8h7M6 4l4 4-4 4M13 2v12\"/></symbol>\
    <symbol id=k-client viewBox=\"0 0 16 16\"><path d=\"M3 2v12M6 8h8M10 4l4 4-4 4\"/></symbol>\
    <symbol id=k-producer viewBox=\"0 0 16 16\"><path d=\"M2 5h8v7H2zM2 5l4 4 4-4M11 3l3-2M11 8h4\"/></symbol>\
    <symbol id=k-consumer viewBox=\"0 0 16 16\"><path d=\"M6 5h8v7H6zM6 5l4 4 4-4M1 8h4M3 6l2 2-2 2\"/></symbol>\
    <symbol id=k-internal viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=2.5 /></symbol>";

fn icon(kind: Kind) -> String {
    let name = kind_name(kind);
    format!("<svg class=icon role=img aria-label={name}><title>{name}</title><use href=\"#k-{name}\"/></svg>")
}
