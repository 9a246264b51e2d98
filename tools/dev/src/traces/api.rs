//! The HTTP side of the traces: Jaeger's query API, as much of it as finds and shows traces, at Jaeger's paths and with its answers, so
//! that whatever reads one reads the other; and the pages, at the paths of Jaeger's pages.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use hyper::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::{
    jaeger,
    map::Map,
    pages,
    search::Search,
    store::{Span, Store},
};
use crate::{
    endpoint::encode,
    http_server::{Ask, Reply, json, redirect, text},
};

/// So many traces the page shows at first; Jaeger's own page does so too.
const PAGE_LIMIT: usize = 20;
/// Jaeger's, of dependencies.
const DEPENDENCIES_LOOKBACK_MS: u64 = 24 * 60 * 60 * 1_000;

pub(super) fn answer(store: &Store, ask: &Ask) -> Reply {
    if ask.method != Method::GET && ask.method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "There is only something to read here.\n");
    }
    if let Some(asset) = pages::asset_of(ask) {
        return asset;
    }
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [] | ["search"] => list(store, ask),
        ["trace"] => to_trace(ask.query("id").unwrap_or_default().trim()),
        ["trace", id] => store.trace(id).map_or_else(|| pages::not_found(id), |spans| pages::trace(&spans, store)),
        ["map"] => map(store, ask),
        ["api", rest @ ..] => api(store, ask, rest),
        _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
    }
}

fn api(store: &Store, ask: &Ask, path: &[&str]) -> Reply {
    match path {
        ["services"] => named(services(&store.traces())),
        ["services", service, "operations"] => {
            named(operations(&store.traces(), Some(service)).into_iter().map(|(name, _)| name).collect())
        }
        ["operations"] => match ask.query("service") {
            Some(service) => {
                let wanted = ask.query("spanKind");
                let all = operations(&store.traces(), Some(service)).into_iter();
                let data = all
                    .map(|(name, kind)| (name, kind.unwrap_or_default()))
                    .filter(|(_, kind)| wanted.is_none_or(|wanted| wanted == *kind))
                    .map(|(name, kind)| json!({ "name": name, "spanKind": kind }))
                    .collect();
                json(StatusCode::OK, &jaeger::list(data))
            }
            None => error(StatusCode::BAD_REQUEST, "parameter 'service' is required"),
        },
        ["dependencies"] => dependencies(store, ask),
        ["traces"] => traces(store, ask),
        ["traces", id] => match store.trace(id) {
            Some(spans) => json(StatusCode::OK, &jaeger::list(vec![jaeger::trace(&spans)])),
            None => error(StatusCode::NOT_FOUND, "trace not found"),
        },
        _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
    }
}

fn list(store: &Store, ask: &Ask) -> Reply {
    let all = store.traces();
    let (services, service) = (services(&all), ask.query("service"));
    let operations = operations(&all, service).into_iter().map(|(name, _)| name).collect();
    let limit = ask.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_LIMIT);
    let traces = Search::parse(ask).map(|search| search.limited(limit).run(all));
    pages::list(ask, &pages::Found { services, operations, traces, limit })
}

/// The form for an id cannot put it into the path by itself.
fn to_trace(id: &str) -> Reply {
    if id.is_empty() { redirect("/search") } else { redirect(&format!("/trace/{}", encode(id))) }
}

fn map(store: &Store, ask: &Ask) -> Reply {
    let leaves = ask.query("leaves") != Some("hide");
    match Search::parse(ask) {
        Ok(search) => {
            let map = Map::of(&search.limited(usize::MAX).run(store.traces()), leaves);
            pages::map(&map, ask.query("lookback").unwrap_or_default(), leaves)
        }
        Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
    }
}

fn traces(store: &Store, ask: &Ask) -> Reply {
    // One or several by id, as in Jaeger.
    let ids: Vec<&str> = ask.query.iter().filter(|(name, _)| name == "traceID").map(|(_, id)| id.as_str()).collect();
    if !ids.is_empty() {
        let found = ids.iter().filter_map(|id| store.trace(id)).map(|spans| jaeger::trace(&spans)).collect();
        return json(StatusCode::OK, &jaeger::list(found));
    }
    match Search::parse(ask) {
        Ok(search) if search.service.is_none() => error(StatusCode::BAD_REQUEST, "parameter 'service' is required"),
        Ok(search) => {
            let found = search.run(store.traces()).iter().map(|spans| jaeger::trace(spans)).collect();
            json(StatusCode::OK, &jaeger::list(found))
        }
        Err(reason) => error(StatusCode::BAD_REQUEST, &reason),
    }
}

/// `endTs` and `lookback` are milliseconds.
fn dependencies(store: &Store, ask: &Ask) -> Reply {
    let number = |name: &str, otherwise: u64| match ask.query(name) {
        None => Ok(otherwise),
        Some(text) => text.parse::<u64>().map_err(|_| format!("{name}: {text} is not a number")),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let end = number("endTs", u64::try_from(now).unwrap_or(u64::MAX));
    let window = end.and_then(|end| Ok((end, number("lookback", DEPENDENCIES_LOOKBACK_MS)?)));
    let (end, lookback) = match window {
        Ok(window) => window,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
    };
    let within = |spans: &Vec<Arc<Span>>| {
        let start = spans.first().map_or(0, |span| span.start_ns / 1_000_000);
        start <= end && start >= end.saturating_sub(lookback)
    };
    let traces: Vec<_> = store.traces().into_iter().filter(within).collect();
    let data = Map::dependencies(&traces)
        .into_iter()
        .map(|((parent, child), count)| json!({ "parent": parent, "child": child, "callCount": count }))
        .collect();
    json(StatusCode::OK, &jaeger::list(data))
}

fn error(status: StatusCode, reason: &str) -> Reply {
    let errors = json!([{ "code": status.as_u16(), "msg": reason }]);
    json(status, &json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors }))
}

fn named(names: BTreeSet<String>) -> Reply {
    json(StatusCode::OK, &jaeger::list(names.into_iter().map(Json::from).collect()))
}

fn services(traces: &[Vec<Arc<Span>>]) -> BTreeSet<String> {
    traces.iter().flatten().map(|span| span.resource.service.clone()).collect()
}

/// Of one service, or of all.
fn operations(traces: &[Vec<Arc<Span>>], service: Option<&str>) -> BTreeSet<(String, Option<&'static str>)> {
    let spans = traces.iter().flatten().filter(|span| service.is_none_or(|service| span.resource.service == service));
    spans.map(|span| (span.name.clone(), jaeger::kind(span.kind))).collect()
}
