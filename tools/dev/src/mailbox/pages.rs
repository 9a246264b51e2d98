//! The mailbox as a person reads it: a list, and one mail with its HTML, its text and its source.

use std::{fmt::Write as _, sync::Arc};

use super::store::Mail;
use crate::{
    http_server::{Reply, escape, html},
    look::{Page, Stack},
};

const NAVIGATION: &[(&str, &str)] = &[Stack::LINK, ("/", "Mailbox")];

/// The mail's own HTML runs no script, loads nothing from anywhere, and opens links beside the page.
const PART_POLICY: &str =
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Newest first.
pub(super) fn list(mails: &[Arc<Mail>]) -> Reply {
    let mut rows = String::new();
    for mail in mails.iter().rev() {
        let _ = write!(
            rows,
            "<tr><td class=\"when muted\">{}</td><td>{}</td><td><a href=\"/view/{}\">{}</a></td></tr>",
            escape(&mail.received_text()),
            escape(&mail.to.join(", ")),
            escape(&mail.id),
            escape(&or(&mail.subject(), "(no subject)")),
        );
    }
    let table = if rows.is_empty() {
        "<p>No mail yet. Everything that the shop sends arrives here and goes no further.</p>".to_owned()
    } else {
        format!("<table><tr><th>Received</th><th>To</th><th>Subject</th></tr>{rows}</table>")
    };
    let body = format!("<div class=mail><h1>Mailbox</h1><div class=wide>{table}</div></div>");
    Page { title: "Mailbox", navigation: NAVIGATION, here: "/", refresh_seconds: Some(5), body, ..Page::default() }
        .reply()
}

pub(super) fn mail(mail: &Mail) -> Reply {
    let (id, subject) = (escape(&mail.id), or(&mail.subject(), "(no subject)"));
    let mut fields = String::new();
    for (name, value) in [
        ("From", mail.header("From").unwrap_or_else(|| mail.from.clone())),
        ("To", mail.to.join(", ")),
        ("Received", mail.received_text()),
        ("Message-ID", mail.header("Message-ID").unwrap_or_default()),
    ] {
        let _ = write!(fields, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    for (name, kind, size) in mail.attachments() {
        let _ = write!(fields, "<dt>Attachment</dt><dd>{} ({}, {size} bytes)</dd>", escape(&name), escape(&kind));
    }
    let html = if mail.html().is_empty() {
        String::new()
    } else {
        format!(
            "<h2>HTML</h2><iframe src=\"/view/{id}.html\" title=\"The mail as HTML\" \
             sandbox=\"allow-popups allow-popups-to-escape-sandbox\"></iframe>"
        )
    };
    let body = format!(
        "<div class=mail><h1>{}</h1><dl>{fields}</dl>{html}<h2>Text</h2><pre>{}</pre>\
         <p><a href=\"/api/v1/message/{id}/raw\">Source</a></p></div>",
        escape(&subject),
        with_links(&mail.text()),
    );
    Page { title: &subject, navigation: NAVIGATION, body, ..Page::default() }.reply()
}

pub(super) fn html_part(mail: &Mail) -> Reply {
    // Links open beside the page. Not in front of the document type: that would change how the browser lays it out.
    let content = mail.html();
    let at = content.to_ascii_lowercase().find("<head>").map_or(0, |head| head + "<head>".len());
    let (before, after) = content.split_at(at);
    html(format!("{before}<base target=\"_blank\">{after}"), PART_POLICY)
}

/// Text as HTML, its web addresses as links.
fn with_links(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let end = word.trim_end_matches(['.', ',', ')', '>', ';']);
        if word.starts_with("http://") || word.starts_with("https://") {
            let rest = piece.get(end.len()..).unwrap_or_default();
            let _ = write!(out, "<a href=\"{0}\" rel=noreferrer>{0}</a>{1}", escape(end), escape(rest));
        } else {
            out.push_str(&escape(piece));
        }
    }
    out
}

fn or(text: &str, fallback: &str) -> String {
    if text.trim().is_empty() { fallback.to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_a_text_become_links_and_markup_does_not() {
        assert_eq!(
            with_links("Go to http://localhost:8081/x?a=1&b=2.\n<b>"),
            "Go to <a href=\"http://localhost:8081/x?a=1&amp;b=2\" rel=noreferrer>http://localhost:8081/x?a=1&amp;b=2</a>.\n&lt;b&gt;"
        );
    }
}
