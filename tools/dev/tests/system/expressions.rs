//! Which metrics an expression of Prometheus asks for: its names that are neither functions, nor words of the language, nor labels.

use std::collections::BTreeSet;

const WORDS: [&str; 12] =
    ["and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "inf"];
/// Those that are followed by a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The metrics in an expression.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        rest = match first {
            '{' => after(rest, '}'),
            '[' => after(rest, ']'),
            '0'..='9' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            _ if is_name(first) => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let (name, tail) = rest.split_at(end);
                let next = tail.trim_start();
                if BEFORE_LABELS.contains(&name) && next.starts_with('(') {
                    after(next, ')')
                } else {
                    if !WORDS.contains(&name) && !is_called(next) {
                        found.insert(name.to_owned());
                    }
                    tail
                }
            }
            _ => &rest[first.len_utf8()..],
        };
    }
    found
}

/// `rate(…)` as well as `sum by (…) (…)`.
fn is_called(next: &str) -> bool {
    let grouped = |word: &str| next.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('('));
    next.starts_with('(') || grouped("by") || grouped("without")
}

/// What follows the closing bracket; quotes inside are skipped.
fn after(text: &str, close: char) -> &str {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if c == close && !quoted => return &text[at + c.len_utf8()..],
            _ => {}
        }
    }
    ""
}

#[test]
fn the_metrics_of_an_expression_are_found() {
    let found = |expression: &str| metrics(expression).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("max by (service) (a_seconds) > 30"), "a_seconds");
    assert_eq!(
        found(r#"sum(rate(b_total{x=~"}|c", route!~".*/{id}"}[5m])) / on (le) group_left d:e:rate5m"#),
        "b_total d:e:rate5m"
    );
    assert_eq!(
        found("up == 0 or vector(0) and histogram_quantile(0.99, sum by (le) (f_bucket)) > 14.4 * 1e3"),
        "f_bucket up"
    );
}
