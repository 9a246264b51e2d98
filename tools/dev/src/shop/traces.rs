//! Traces as Jaeger's query API tells them, as a tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Shop, eventually};
use crate::{endpoint, http};

/// Spans are sent in batches, some seconds apart.
const PATIENCE: Duration = Duration::from_secs(40);
const LIST_MAX: usize = 1_000;

/// One thing that was done.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its id.
    pub id: String,
    /// The span that it is part of; `None` for the root.
    pub parent: Option<String>,
    /// What was done.
    pub name: String,
    /// The service that did it.
    pub service: String,
    /// `server`, `client`, `producer`, `consumer`; empty for what happens inside of a process.
    pub kind: String,
    /// More about it.
    pub tags: BTreeMap<String, Value>,
    /// The trace and the id of each span that it is related to without being part of it.
    pub links: Vec<(String, String)>,
    started_us: u64,
    duration: Duration,
}

/// Everything that came of one request.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Its id.
    pub id: String,
    /// In the order of their beginning.
    pub spans: Vec<Span>,
}

impl Span {
    /// Whether this is a statement of SQL.
    #[must_use]
    pub fn is_statement(&self) -> bool {
        self.tags.contains_key("db.system.name")
    }

    /// A tag as text; empty when there is none.
    #[must_use]
    pub fn tag(&self, name: &str) -> String {
        self.tags
            .get(name)
            .map_or_else(String::new, |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

impl Shop {
    /// Where people look at a trace.
    #[must_use]
    pub fn trace_url(&self, id: &str) -> String {
        format!("http://localhost:{}/trace/{id}", self.traces)
    }

    /// What has arrived of a trace.
    ///
    /// # Errors
    /// When the traces do not answer.
    pub async fn trace(&self, id: &str) -> Result<Trace> {
        let answer = http::get(self.traces, &format!("/api/traces/{id}")).await?;
        if !answer.status.is_success() {
            return Ok(Trace::default());
        }
        Ok(Trace::parse(&answer.json()?["data"][0]))
    }

    /// The newest traces that have a span of this name of a service.
    ///
    /// # Errors
    /// When the traces do not answer.
    pub async fn traces_with(&self, service: &str, span: &str) -> Result<Vec<Trace>> {
        let (service, span) = (endpoint::encode(service), endpoint::encode(span));
        let path = format!("/api/traces?service={service}&operation={span}&limit={LIST_MAX}&lookback=1h");
        let list = http::get_json(self.traces, &path).await?;
        Ok(list["data"].as_array().into_iter().flatten().map(Trace::parse).collect())
    }

    /// Waits until a trace is in one piece and `whole` says that nothing is missing.
    ///
    /// # Errors
    /// When something still is; with the tree of what is there.
    pub async fn whole_trace(&self, id: &str, mut whole: impl FnMut(&Trace) -> bool) -> Result<Trace> {
        let mut last = Trace::default();
        let found = eventually("the trace", PATIENCE, async || {
            let trace = self.trace(id).await?;
            let settled = trace.spans.len() == last.spans.len() && trace.orphans().is_empty() && whole(&trace);
            last = trace;
            if settled {
                return Ok(Some(()));
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok(None)
        });
        if let Err(error) = found.await {
            bail!("{error:#}: {id} is not whole. This is what is there:\n{last}");
        }
        Ok(last)
    }
}

impl Trace {
    fn parse(trace: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut spans: Vec<Span> = Vec::new();
        for span in trace["spans"].as_array().into_iter().flatten() {
            let references = || span["references"].as_array().into_iter().flatten();
            let mut parents = references().filter(|reference| reference["refType"] == "CHILD_OF");
            let links = references().filter(|reference| reference["refType"] == "FOLLOWS_FROM");
            let tags = span["tags"].as_array().into_iter().flatten();
            let tags: BTreeMap<_, _> = tags.map(|tag| (text(&tag["key"]), tag["value"].clone())).collect();
            spans.push(Span {
                id: text(&span["spanID"]),
                parent: parents.next().map(|parent| text(&parent["spanID"])),
                name: text(&span["operationName"]),
                service: text(&trace["processes"][text(&span["processID"])]["serviceName"]),
                links: links.map(|link| (text(&link["traceID"]), text(&link["spanID"]))).collect(),
                kind: tags.get("span.kind").map(text).unwrap_or_default(),
                tags,
                started_us: span["startTime"].as_u64().unwrap_or_default(),
                duration: Duration::from_micros(span["duration"].as_u64().unwrap_or_default()),
            });
        }
        spans.sort_by_key(|span| span.started_us);
        Self { id: text(&trace["traceID"]), spans }
    }

    /// The services that took part.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|span| span.service.as_str()).collect()
    }

    /// Spans of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// A span by its id.
    #[must_use]
    pub fn span(&self, id: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.id == id)
    }

    /// Spans whose parent is not there.
    #[must_use]
    pub fn orphans(&self) -> Vec<&Span> {
        let missing = |span: &&Span| span.parent.as_deref().is_some_and(|parent| self.span(parent).is_none());
        self.spans.iter().filter(missing).collect()
    }

    /// All spans depth first, each with its depth. One whose parent is missing stands at the root.
    #[must_use]
    pub fn tree(&self) -> Vec<(usize, &Span)> {
        let top = |span: &&Span| span.parent.as_deref().is_none_or(|parent| self.span(parent).is_none());
        let mut open: Vec<(usize, &Span)> = self.spans.iter().filter(top).rev().map(|span| (0, span)).collect();
        let mut tree = Vec::with_capacity(self.spans.len());
        while let Some((depth, span)) = open.pop() {
            tree.push((depth, span));
            let children = self.spans.iter().filter(|child| child.parent.as_deref() == Some(&span.id));
            open.extend(children.rev().map(|child| (depth + 1, child)));
        }
        tree
    }
}

/// An indented tree, one line a span. Statements are left out: they are most of a trace.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, span) in self.tree().into_iter().filter(|(_, span)| !span.is_statement()) {
            let what = format!("{}{}", "  ".repeat(depth), span.name);
            let ms = span.duration.as_secs_f64() * 1000.0;
            writeln!(f, "{what:62} {:14} {:9} {ms:>9.2} ms", span.service, span.kind)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_is_a_tree_in_the_order_of_time() {
        let span = |id: &str, parent: &str, name: &str, start: u64| {
            let references =
                if parent.is_empty() { json!([]) } else { json!([{ "refType": "CHILD_OF", "spanID": parent }]) };
            json!({
                "spanID": id, "operationName": name, "references": references, "startTime": start, "duration": 1500, "processID": "p1",
                "tags": [{ "key": "span.kind", "value": "server" }],
            })
        };
        let trace = Trace::parse(&json!({
            "spans": [
                span("c", "a", "second", 30), span("d", "b", "inner", 25), span("a", "", "root", 10), span("b", "a", "first", 20),
                span("e", "gone", "orphan", 40),
            ],
            "processes": { "p1": { "serviceName": "users" } },
        }));
        let tree: Vec<_> = trace.tree().into_iter().map(|(depth, span)| (depth, span.name.as_str())).collect();
        assert_eq!(tree, [(0, "root"), (1, "first"), (2, "inner"), (1, "second"), (0, "orphan")]);
        assert_eq!(trace.orphans().iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["orphan"]);
        let shown = trace.to_string();
        let first = shown.lines().next().unwrap();
        assert!(first.starts_with("root ") && first.contains("users") && first.contains("server"), "{first}");
        assert!(first.ends_with("1.50 ms"), "{first}");
    }
}
