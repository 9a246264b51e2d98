//! SQL statements as spans. sqlx reports each statement, once it is over, as an event with its text and its duration; here that
//! becomes a finished client span inside the current one (OpenTelemetry conventions for databases).
//!
//! Nothing is made outside of a recorded span, so loops that poll leave no traces. The text holds no values: statements take theirs
//! as parameters. What sqlx does not report is not here either: the rows themselves, `BEGIN`, the wait for a connection, and whether the
//! statement failed, which the span around it says.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{self, Filter},
    registry::LookupSpan,
};

/// Where sqlx reports statements.
pub(crate) const TARGET: &str = "sqlx::query";

static DATABASE: OnceLock<Database> = OnceLock::new();

/// The database of this process, for the attributes of its statements.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name (`db.namespace`).
    pub name: String,
    /// The server's host (`server.address`).
    pub host: String,
    /// The server's port (`server.port`).
    pub port: u16,
}

/// Tells which database the statements of this process go to. The first one counts; a service has one.
pub fn database(database: Database) {
    let _first = DATABASE.get_or_init(|| database);
}

pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    Statements { tracer: provider.tracer("postrider") }.with_filter(only_statements())
}

fn only_statements<S>() -> impl Filter<S> {
    Targets::new().with_default(LevelFilter::OFF).with_target(TARGET, LevelFilter::TRACE)
}

struct Statements {
    tracer: SdkTracer,
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let around = Context::current();
        if !around.span().span_context().is_sampled() {
            return;
        }
        let mut report = Report::default();
        event.record(&mut report);
        let text = report.text();
        let Summary { operation, table } = Summary::of(text);
        let name = table.map_or_else(|| operation.clone(), |table| format!("{operation} {table}"));
        let mut attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.query.summary", name.clone()),
            KeyValue::new("db.query.text", text.to_owned()),
            KeyValue::new("db.response.returned_rows", report.rows_returned),
        ];
        attributes.extend(table.map(|table| KeyValue::new("db.collection.name", table.to_owned())));
        if let Some(Database { name, host, port }) = DATABASE.get() {
            attributes.push(KeyValue::new("db.namespace", name.clone()));
            attributes.push(KeyValue::new("server.address", host.clone()));
            attributes.push(KeyValue::new("server.port", i64::from(*port)));
        }
        let end = SystemTime::now();
        let builder = self
            .tracer
            .span_builder(name)
            .with_kind(SpanKind::Client)
            .with_start_time(end.checked_sub(report.took).unwrap_or(end))
            .with_attributes(attributes);
        builder.start_with_context(&self.tracer, &around).end_with_timestamp(end);
    }
}

/// What sqlx says of a statement.
#[derive(Default)]
struct Report {
    /// The beginning of the text, or all of it if it is short.
    summary: String,
    /// The whole text, unless it is short.
    statement: String,
    rows_returned: i64,
    took: Duration,
}

impl Report {
    fn text(&self) -> &str {
        if self.statement.is_empty() { self.summary.trim() } else { self.statement.trim() }
    }
}

impl Visit for Report {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "rows_returned" {
            self.rows_returned = i64::try_from(value).unwrap_or(i64::MAX);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.took = Duration::try_from_secs_f64(value).unwrap_or_default();
        }
    }
}

/// What a statement does to which table. Of a statement with several parts (`with …`) the first that changes something counts.
#[derive(Debug, PartialEq)]
struct Summary<'a> {
    operation: String,
    table: Option<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(text: &'a str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is = |at: usize, wanted: &str| words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        let first = words.first().map(|word| bare(word).to_ascii_uppercase()).unwrap_or_default();
        let at = if first == "WITH" {
            (1..words.len()).find(|at| {
                // `for update` locks and `do update` is a part of an insert.
                let starts = |verb| bare(words[*at]).eq_ignore_ascii_case(verb);
                starts("insert") || starts("delete") || (starts("update") && !is(at - 1, "for") && !is(at - 1, "do"))
            })
        } else {
            Some(0)
        };
        let operation =
            at.map_or_else(|| "SELECT".to_owned(), |at| bare(words.get(at).unwrap_or(&"")).to_ascii_uppercase());
        let start = at.unwrap_or(0);
        let after = |word: &str| (start..words.len()).find(|at| is(*at, word)).and_then(|at| words.get(at + 1));
        let table = match operation.as_str() {
            "INSERT" => after("into"),
            "UPDATE" => words.get(start + 1),
            "DELETE" | "SELECT" => after("from"),
            _ => None,
        };
        // A function or a subquery is no table.
        let table = table.copied().filter(|table| !table.contains('(')).map(bare).filter(|table| !table.is_empty());
        Self { operation, table }
    }
}

/// A word without the punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_' && c != '"')
}

#[cfg(test)]
mod tests {
    use opentelemetry::Value;
    use opentelemetry_sdk::trace::SpanData;

    use super::*;
    use crate::testing::Recording;

    fn report(text: &str) {
        let summary = "select 1 …".to_owned();
        tracing::trace!(target: TARGET, summary, db.statement = text, rows_returned = 3_u64, elapsed_secs = 0.25);
    }

    fn attribute(span: &SpanData, key: &str) -> Option<Value> {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|found| found.value.clone())
    }

    #[test]
    fn a_statement_is_a_finished_client_span_inside_the_current_one() {
        let recording = Recording::start(1.0);
        tracing::info_span!("request").in_scope(|| report("\n\nselect id from orders where id = $1\n"));
        let spans = recording.spans();
        let [statement, request] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((statement.name.as_ref(), &statement.span_kind), ("SELECT orders", &SpanKind::Client));
        assert_eq!(statement.parent_span_id, request.span_context.span_id());
        assert_eq!(statement.end_time.duration_since(statement.start_time).unwrap(), Duration::from_millis(250));
        for (key, value) in [
            ("db.system.name", "postgresql"),
            ("db.operation.name", "SELECT"),
            ("db.query.summary", "SELECT orders"),
            ("db.collection.name", "orders"),
            ("db.query.text", "select id from orders where id = $1"),
        ] {
            assert_eq!(attribute(statement, key), Some(value.into()), "{key}");
        }
        assert_eq!(attribute(statement, "db.response.returned_rows"), Some(3.into()));
        assert!(request.events.is_empty(), "it is a span, and not an event as well: {:?}", request.events);
    }

    #[test]
    fn outside_of_a_recorded_span_a_statement_leaves_nothing() {
        let recording = Recording::start(1.0);
        report("select 1");
        assert!(recording.spans().is_empty());
        let unrecorded = Recording::start(0.0);
        tracing::info_span!("request").in_scope(|| report("select 1"));
        assert!(unrecorded.spans().is_empty());
    }

    #[test]
    fn a_statement_is_summed_up_by_what_it_does_to_which_table() {
        for (text, operation, table) in [
            ("select * from messaging.outbox where lane = $1", "SELECT", Some("messaging.outbox")),
            ("select 1", "SELECT", None),
            ("select", "SELECT", None),
            ("select pg_advisory_xact_lock($1)", "SELECT", None),
            ("select count(*) from unnest($1::text[])", "SELECT", None),
            ("insert into messaging.job (task) values ($1)", "INSERT", Some("messaging.job")),
            ("update orders set state = $1", "UPDATE", Some("orders")),
            ("delete from orders, lines", "DELETE", Some("orders")),
            ("with a as (select 1), b as (\n insert into inbox (id) values ($1)) select", "INSERT", Some("inbox")),
            ("with a as (select id from x for update skip locked) select * from a", "SELECT", Some("x")),
            ("with gone as (delete from outbox using d returning *) select", "DELETE", Some("outbox")),
            ("COMMIT", "COMMIT", None),
            ("", "", None),
        ] {
            assert_eq!(Summary::of(text), Summary { operation: operation.to_owned(), table }, "{text}");
        }
    }
}
