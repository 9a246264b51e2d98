//! The HTTP side of the traces: Jaeger's query API, as much of it as finds and shows traces, at Jaeger's paths; and the pages, at
//! the paths of Jaeger's pages.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::{jaeger, pages, search::Search, store::Store};
use crate::http_server::{Ask, Reply, json, text};

pub(super) fn answer(store: &Store, ask: &Ask) -> Reply {
    if ask.method != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "There is only something to read here.\n");
    }
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [] | ["search"] => match Search::parse(ask) {
            Ok(search) => pages::list(&services(store), &search, &search.run(store.traces())),
            Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        },
        ["trace", id] => store.trace(id).map_or_else(|| pages::not_found(id), |spans| pages::trace(&spans)),
        ["api", "services"] => named(services(store)),
        ["api", "services", service, "operations"] => {
            named(operations(store, service).into_iter().map(|(name, _)| name).collect())
        }
        ["api", "operations"] => {
            let all = operations(store, ask.query("service").unwrap_or_default());
            let data = all
                .into_iter()
                .map(|(name, kind)| json!({ "name": name, "spanKind": kind.unwrap_or_default() }))
                .collect();
            json(StatusCode::OK, &jaeger::list(data))
        }
        ["api", "traces"] => traces(store, ask),
        ["api", "traces", id] => match store.trace(id) {
            Some(spans) => json(StatusCode::OK, &jaeger::list(vec![jaeger::trace(&spans)])),
            None => error(StatusCode::NOT_FOUND, "trace not found"),
        },
        _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
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

fn error(status: StatusCode, reason: &str) -> Reply {
    let errors = json!([{ "code": status.as_u16(), "msg": reason }]);
    json(status, &json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors }))
}

fn named(names: BTreeSet<String>) -> Reply {
    json(StatusCode::OK, &jaeger::list(names.into_iter().map(Json::from).collect()))
}

fn services(store: &Store) -> BTreeSet<String> {
    store.traces().iter().flatten().map(|span| span.resource.service.clone()).collect()
}

fn operations(store: &Store, service: &str) -> BTreeSet<(String, Option<&'static str>)> {
    let traces = store.traces();
    let spans = traces.iter().flatten().filter(|span| span.resource.service == service);
    spans.map(|span| (span.name.clone(), jaeger::kind(span.kind))).collect()
}
