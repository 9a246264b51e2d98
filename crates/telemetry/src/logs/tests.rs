//! What log lines look like.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

use super::*;

/// Collects what is written.
#[derive(Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        self.text().lines().map(parse).collect()
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Runs `work` with logs in `format`, filtered by `filter`, and with traces.
fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> Buffer {
    let buffer = Buffer::default();
    let none = None::<opentelemetry_sdk::trace::BatchSpanProcessor>;
    let provider = traces::provider(traces::resource("test", "0"), 1.0, none);
    let subscriber = tracing_subscriber::registry()
        .with(layer("orders", format, buffer.clone()).with_filter(EnvFilter::new(filter)))
        .with(traces::layer(&provider));
    tracing::subscriber::with_default(subscriber, work);
    buffer
}

#[test]
fn json_lines_have_the_ids_of_the_span_at_the_top() {
    let mut ids = None;
    let lines = logged(LogFormat::Json, "info", || {
        tracing::info!("outside");
        tracing::info_span!("request").in_scope(|| {
            ids = traces::current_ids();
            tracing::warn!(order = 7, "inside");
        });
    });
    let lines = lines.lines();
    assert_eq!(lines[0]["message"], "outside");
    assert_eq!(lines[0].get("trace_id"), None);
    let (trace_id, span_id) = ids.unwrap();
    assert_eq!((&lines[1]["trace_id"], &lines[1]["span_id"]), (&json!(trace_id), &json!(span_id)));
    assert_eq!(
        (&lines[1]["level"], &lines[1]["service"], &lines[1]["span"]),
        (&json!("WARN"), &json!("orders"), &json!("request"))
    );
    assert_eq!(lines[1]["fields"], json!({"order": 7}));
    assert!(chrono::DateTime::parse_from_rfc3339(lines[1]["timestamp"].as_str().unwrap()).is_ok());
}

#[test]
fn no_text_can_break_or_forge_a_json_line() {
    let text = "a \"quoted\"\nline\u{1b}[31m }{ \\";
    let lines = logged(LogFormat::Json, "info", || {
        tracing::info!(level = "FORGED", trace_id = text, number = f64::NAN, debug = ?text, "{text}");
    });
    let [line] = &lines.lines()[..] else { panic!("{}", lines.text()) };
    assert_eq!((&line["message"], &line["level"]), (&json!(text), &json!("INFO")));
    assert_eq!((&line["fields"]["trace_id"], &line["fields"]["level"]), (&json!(text), &json!("FORGED")));
    assert_eq!(line.get("trace_id"), None);
}

#[test]
fn a_line_outside_of_any_span_has_the_id_of_the_trace_that_it_names() {
    let named = "4bf92f3577b34da6a3ce929d0e0e4736";
    let lines = logged(LogFormat::Json, "info", || {
        tracing::warn!(trace_id = named, "of a message");
        tracing::warn!(trace_id = "anything", "of nothing");
    });
    let lines = lines.lines();
    assert_eq!(lines[0]["trace_id"], named);
    assert!(lines[0].get("fields").is_none(), "{}", lines[0]);
    assert!(lines[1].get("trace_id").is_none(), "{}", lines[1]);
}

#[test]
fn human_lines_have_the_ids_too() {
    let mut ids = None;
    let log = logged(LogFormat::Human, "info", || {
        tracing::info_span!("request").in_scope(|| {
            ids = traces::current_ids();
            tracing::info!(sku = "a b", count = 2, "reserved");
        });
    });
    let (trace_id, span_id) = ids.unwrap();
    let expected = format!("reserved count=2 sku=\"a b\" trace_id={trace_id} span_id={span_id}\n");
    assert!(log.text().ends_with(&expected), "{}", log.text());
}

#[test]
fn a_quiet_log_filter_cuts_neither_traces_nor_the_ids_in_what_is_still_logged() {
    let lines = logged(LogFormat::Json, "error", || {
        tracing::info_span!("request").in_scope(|| {
            tracing::info!("not logged");
            tracing::error!("logged");
        });
    });
    let lines = lines.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["trace_id"].as_str().map(str::len), Some(32));
}

#[test]
fn errors_are_logged_with_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("the order cannot be stored")]
    struct Outer(#[source] io::Error);

    let lines = logged(LogFormat::Json, "info", || {
        let error: &(dyn std::error::Error + 'static) = &Outer(io::Error::other("disk full"));
        tracing::error!(error, "failed");
    });
    assert_eq!(lines.lines()[0]["fields"]["error"], "the order cannot be stored: disk full");
}

#[test]
fn a_panic_is_a_log_line_in_its_trace() {
    let before = Arc::new(std::panic::take_hook());
    let others = Arc::clone(&before);
    let here = std::thread::current().id();
    std::panic::set_hook(Box::new(
        move |info| {
            if std::thread::current().id() == here { panicked(info) } else { others(info) }
        },
    ));
    let lines = logged(LogFormat::Json, "info", || {
        let _panic = std::panic::catch_unwind(|| {
            tracing::info_span!("request").in_scope(|| panic!("no such {}", "luck"));
        });
    });
    std::panic::set_hook(Box::new(move |info| before(info)));
    let lines = lines.lines();
    assert_eq!(lines[0]["fields"]["panic"], "no such luck");
    assert!(lines[0]["fields"]["location"].as_str().unwrap().contains("tests.rs"));
    assert_eq!(lines[0]["trace_id"].as_str().map(str::len), Some(32));
}

/// lapin reports a message that no queue took with all that is in it.
#[test]
fn the_content_of_returned_messages_is_neither_logged_nor_traced() {
    let returned = || tracing::warn!(target: "lapin::returned_messages", "a message with an address in it");
    let filter = crate::Options::default().log_filter().unwrap().to_string();
    let lines = logged(LogFormat::Json, &filter, || {
        returned();
        tracing::warn!(target: "lapin::channel", "what else it says");
    });
    assert_eq!(lines.lines().len(), 1, "{}", lines.text());
    let recording = crate::testing::Recording::start(1.0);
    tracing::info_span!("send").in_scope(returned);
    let spans = recording.spans();
    assert!(spans.len() == 1 && spans[0].events.is_empty(), "{spans:?}");
}
