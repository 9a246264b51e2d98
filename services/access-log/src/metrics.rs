//! What is counted here. Requests, messages and pools are counted where they are handled.

use metrics::{counter, describe_counter};

use crate::line::Stored;

/// Help texts.
pub(crate) fn describe() {
    describe_counter!(
        "access_log_lines_total",
        "Lines of the access log by outcome: stored, repeated (delivered again, already stored), refused (of a day that is gone or not here yet) and unusable (without a time, or no status of HTTP)."
    );
}

/// What became of a batch.
pub(crate) fn count(stored: &Stored, unusable: usize) {
    let lines = |outcome: &'static str, count: i64| {
        counter!("access_log_lines_total", "outcome" => outcome).increment(u64::try_from(count).unwrap_or_default());
    };
    lines("stored", stored.new);
    lines("repeated", stored.repeated);
    lines("refused", stored.refused);
    lines("unusable", i64::try_from(unusable).unwrap_or(i64::MAX));
}
