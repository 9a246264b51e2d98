//! Finds traces, with the parameters of Jaeger's `/api/traces`; and those of the search page, which are easier to write by hand:
//! `tags` may also be `name=value name="other value"`, and `errors=true` is short for the tag `error=true`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    jaeger,
    store::{Span, Status},
};
use crate::http_server::Ask;

/// Jaeger's.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1500;

/// A trace is found when one of its spans has all of this.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Search {
    pub(super) service: Option<String>,
    pub(super) operation: Option<String>,
    tags: BTreeMap<String, String>,
    /// Begin of the span, in nanoseconds since 1970.
    after_ns: Option<u64>,
    before_ns: Option<u64>,
    min_ns: Option<u64>,
    max_ns: Option<u64>,
    limit: usize,
}

impl Search {
    /// `Err` names the parameter that makes no sense.
    pub(super) fn parse(ask: &Ask) -> Result<Self, String> {
        let number = |name: &str| -> Result<Option<u64>, String> {
            ask.query(name).map(|text| text.parse().map_err(|_| format!("{name}: {text} is not a number"))).transpose()
        };
        let time = |name: &str| -> Result<Option<u64>, String> {
            ask.query(name)
                .map(|text| duration_ns(text).ok_or_else(|| format!("{name}: {text} is not a duration")))
                .transpose()
        };
        let micros = |value: Option<u64>| value.map(|micros| micros.saturating_mul(1_000));
        let after_ns = match micros(number("start")?) {
            None => time("lookback")?.map(|lookback| now_ns().saturating_sub(lookback)),
            start => start,
        };
        let (min_ns, max_ns) = (time("minDuration")?, time("maxDuration")?);
        if let (Some(min), Some(max)) = (min_ns, max_ns)
            && min > max
        {
            return Err("maxDuration: it must not be less than minDuration".to_owned());
        }
        let mut tags = tags(ask)?;
        if ask.query("errors").is_some_and(|errors| errors != "false") {
            tags.insert("error".to_owned(), "true".to_owned());
        }
        Ok(Self {
            service: ask.query("service").map(str::to_owned),
            operation: ask.query("operation").filter(|operation| *operation != "all").map(str::to_owned),
            tags,
            after_ns,
            before_ns: micros(number("end")?),
            min_ns,
            max_ns,
            limit: number("limit")?
                .map_or(LIMIT_DEFAULT, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX))
                .min(LIMIT_MAX),
        })
    }

    /// The same, for at most so many traces, whatever was asked for.
    pub(super) fn limited(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The traces that are found, as many as are wanted, in the given order.
    pub(super) fn run(&self, traces: Vec<Vec<Arc<Span>>>) -> Vec<Vec<Arc<Span>>> {
        traces.into_iter().filter(|trace| trace.iter().any(|span| self.matches(span))).take(self.limit).collect()
    }

    fn matches(&self, span: &Span) -> bool {
        let duration = span.duration_ns();
        self.service.as_ref().is_none_or(|service| *service == span.resource.service)
            && self.operation.as_ref().is_none_or(|operation| *operation == span.name)
            && self.after_ns.is_none_or(|after| span.start_ns >= after)
            && self.before_ns.is_none_or(|before| span.start_ns <= before)
            && self.min_ns.is_none_or(|min| duration >= min)
            && self.max_ns.is_none_or(|max| duration <= max)
            && self.tags.iter().all(|(name, value)| has_tag(span, name, value))
    }
}

/// As in Jaeger, a tag is an attribute of the span, of its process, of one of its events, or what OpenTelemetry has a field for.
fn has_tag(span: &Span, name: &str, value: &str) -> bool {
    if name == "error" {
        return span.failed() == (value == "true");
    }
    let events = span.events.iter().flat_map(|event| &event.attributes);
    let mut all = span.attributes.iter().chain(&span.resource.attributes).chain(events);
    all.any(|(key, found)| key == name && found.text() == value) || field(span, name).is_some_and(|text| text == value)
}

fn field<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    match (name, &span.status) {
        ("span.kind", _) => jaeger::kind(span.kind),
        ("otel.scope.name", _) => Some(&span.scope),
        ("otel.status_code", Status::Ok) => Some("OK"),
        ("otel.status_code", Status::Error(_)) => Some("ERROR"),
        ("otel.status_description", Status::Error(reason)) => Some(reason),
        _ => None,
    }
}

/// `tags={"name":"value"}` or `tags=name=value …`, and any number of `tag=name:value`.
fn tags(ask: &Ask) -> Result<BTreeMap<String, String>, String> {
    let mut tags: BTreeMap<String, String> = match ask.query("tags").map(str::trim) {
        Some(text) if text.starts_with('{') => serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text)
            .map_err(|_| "tags: not a JSON object".to_owned())?
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
        Some(text) => written_tags(text)?,
        None => BTreeMap::new(),
    };
    for (_, pair) in ask.query.iter().filter(|(name, _)| name == "tag") {
        let (name, value) = pair.split_once(':').ok_or_else(|| format!("tag: {pair} is not name:value"))?;
        tags.insert(name.to_owned(), value.to_owned());
    }
    Ok(tags)
}

/// Pairs with spaces between them; a value with spaces stands in double quotes.
fn written_tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut tags = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let unclear = || format!("tags: {rest} is not name=value");
        let (name, tail) = rest.split_once('=').ok_or_else(unclear)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(unclear());
        }
        let (value, tail) = match tail.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(|| format!("tags: a quote of {name} is not closed"))?,
            None => tail.split_once(char::is_whitespace).unwrap_or((tail, "")),
        };
        tags.insert(name.to_owned(), value.to_owned());
        rest = tail.trim_start();
    }
    Ok(tags)
}

/// Go's durations: `1h30m`, `100ms`, `1.5s`, and Jaeger's `2d` for looking back.
fn duration_ns(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12), ("d", 8.64e13)];
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    // Fractions of a nanosecond and centuries are nobody's business here; the cast saturates.
    (!text.is_empty()).then_some(total as u64)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::store::{Kind, Value, tests::span};
    use hyper::{Method, body::Bytes};

    fn search(query: &[(&str, &str)]) -> Result<Search, String> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Search::parse(&Ask { method: Method::GET, path: vec![], query, body: Bytes::new() })
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanoseconds) in
            [("100ms", 100_000_000), ("1h30m", 5_400_000_000_000), ("1.5s", 1_500_000_000), ("2d", 172_800_000_000_000)]
        {
            assert_eq!(duration_ns(text), Some(nanoseconds), "{text}");
        }
        for nonsense in ["", "5", "ms", "5 apples", "1.2.3s"] {
            assert_eq!(duration_ns(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_trace_is_found_by_what_one_of_its_spans_has() {
        let mut child = span("1", "b", "a", "inner", 2_000, 5_000);
        child.attributes.push(("http.route".to_owned(), Value::Text("/users".to_owned())));
        child.attributes.push(("note".to_owned(), Value::Text("two words".to_owned())));
        child.attributes.push(("code".to_owned(), Value::Int(550)));
        child.kind = Kind::Client;
        child.status = Status::Error("no".to_owned());
        let traces = || vec![vec![Arc::new(span("1", "a", "", "POST /users", 1_000, 9_000)), Arc::new(child.clone())]];
        let found = |query: &[(&str, &str)]| search(query).unwrap().run(traces()).len();
        for query in [
            &[("service", "users")] as &[_],
            &[("service", "users"), ("operation", "inner"), ("tags", r#"{"http.route":"/users","error":"true"}"#)],
            &[("tag", "http.route:/users")],
            &[("tags", "http.route=/users error=true")],
            &[("tags", r#"note="two words""#), ("errors", "true")],
            &[("tags", r#"{"code":550,"span.kind":"client"}"#)],
            &[("start", "1"), ("end", "1")],
            &[("minDuration", "8us")],
            &[("service", "users"), ("operation", "")],
        ] {
            assert_eq!(found(query), 1, "{query:?}");
        }
        for query in [
            &[("service", "orders")] as &[_],
            &[("service", "users"), ("operation", "outer")],
            // Both of one span, not one each of two.
            &[("operation", "POST /users"), ("tag", "http.route:/users")],
            &[("start", "3")],
            &[("maxDuration", "2us")],
            &[("limit", "0")],
            &[("errors", "true"), ("operation", "POST /users")],
            &[("tags", "span.kind=server")],
        ] {
            assert_eq!(found(query), 0, "{query:?}");
        }
    }

    #[test]
    fn parameters_that_make_no_sense_are_named() {
        for (name, value) in [
            ("limit", "many"),
            ("lookback", "long"),
            ("tags", "error"),
            ("tags", "a b=c"),
            ("tags", "a=\"b"),
            ("tags", "{"),
            ("tag", "error"),
            ("minDuration", "5"),
        ] {
            assert!(search(&[(name, value)]).unwrap_err().starts_with(name), "{name}");
        }
    }
}
