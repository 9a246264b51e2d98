//! Log lines: human or JSON, each with the ids of its trace and span. Nothing is sent anywhere; lines go to the given writer.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    io::IsTerminal as _,
    panic::PanicHookInfo,
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::{
    Layer,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

use crate::{options::LogFormat, traces};

pub(crate) fn layer<S, W>(service: &'static str, format: LogFormat, writer: W) -> impl Layer<S> + use<S, W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let colours = format == LogFormat::Human && std::io::stdout().is_terminal();
    tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer).event_format(Lines { service, format })
}

/// Panics are log lines too, with the ids of the request or message they happened in.
pub(crate) fn panicked(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("(not a text)");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(location, backtrace, panic = message, "a panic");
}

struct Lines {
    service: &'static str,
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Records of the `log` crate carry their real origin in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line {
            metadata,
            fields,
            span: context.lookup_current().map(|span| span.name()),
            ids: traces::current_ids(),
        };
        match self.format {
            LogFormat::Human => line.human(writer),
            LogFormat::Json => line.json(writer, self.service),
        }
    }
}

struct Line<'a> {
    metadata: &'a Metadata<'a>,
    fields: Fields,
    span: Option<&'static str>,
    ids: Option<(String, String)>,
}

impl Line<'_> {
    fn human(self, mut writer: Writer<'_>) -> fmt::Result {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let level = self.metadata.level();
        if writer.has_ansi_escapes() {
            write!(writer, "\x1b[2m{time}\x1b[0m {}{level:>5}\x1b[0m ", colour(level))?;
        } else {
            write!(writer, "{time} {level:>5} ")?;
        }
        write!(writer, "{}: {}", self.metadata.target(), self.fields.message)?;
        for (name, value) in &self.fields.others {
            match value {
                Value::String(text) => write!(writer, " {name}={text:?}")?,
                other => write!(writer, " {name}={other}")?,
            }
        }
        if let Some((trace_id, span_id)) = &self.ids {
            write!(writer, " trace_id={trace_id} span_id={span_id}")?;
        }
        writeln!(writer)
    }

    fn json(mut self, mut writer: Writer<'_>, service: &str) -> fmt::Result {
        let mut line = Map::new();
        line.insert("timestamp".into(), json!(Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)));
        line.insert("level".into(), json!(self.metadata.level().as_str()));
        line.insert("service".into(), json!(service));
        line.insert("target".into(), json!(self.metadata.target()));
        line.insert("message".into(), json!(self.fields.message));
        if let Some(span) = self.span {
            line.insert("span".into(), json!(span));
        }
        if let Some((trace_id, span_id)) = self.ids {
            line.insert("trace_id".into(), json!(trace_id));
            line.insert("span_id".into(), json!(span_id));
        } else if let Some(trace_id) = self.fields.take_trace_id() {
            line.insert("trace_id".into(), trace_id);
        }
        // Under a key of their own: a field may have any name.
        if !self.fields.others.is_empty() {
            line.insert("fields".into(), Value::Object(self.fields.others));
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn colour(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// What an event says: its message, and its other fields in the order of their names.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    /// The trace that an event outside of any span names: what was decided about a message belongs to the message's trace.
    fn take_trace_id(&mut self) -> Option<Value> {
        let is_id = |id: &str| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
        self.others.get("trace_id").and_then(Value::as_str).filter(|id| is_id(id))?;
        self.others.remove("trace_id")
    }

    fn insert(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            // Written by the bridge from the `log` crate; they are in the metadata already.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, json!(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.insert(field, Value::String(text));
    }
}

#[cfg(test)]
pub(crate) mod tests;
