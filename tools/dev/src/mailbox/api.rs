//! The HTTP side of the mailbox: Mailpit's API, as much of it as finds, shows and deletes mails, at Mailpit's paths and in its
//! JSON, so that whatever reads one reads the other; and the pages.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use mail_parser::Address;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    pages,
    store::{Mail, Store},
};
use crate::{
    http_server::{Ask, Reply, json, reply, text},
    look,
};

const LIST_DEFAULT: usize = 50;
const SNIPPET_MAX_CHARS: usize = 250;

pub(super) fn answer(store: &Store, ask: &Ask) -> Reply {
    if let Some(asset) = look::shared_asset(ask) {
        return asset;
    }
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    match (&ask.method, path.as_slice()) {
        (&Method::GET, []) => pages::list(&store.all()),
        (&Method::GET, ["view", name]) => view(store, name),
        (&Method::GET, ["livez" | "readyz"]) => text(StatusCode::OK, "ok\n"),
        (&Method::GET, ["api", "v1", "messages"]) => list(store.all(), store.all().len(), ask),
        (&Method::GET, ["api", "v1", "search"]) => {
            let query = ask.query("query").unwrap_or_default();
            list(store.all().into_iter().filter(|mail| matches(mail, query)).collect(), store.all().len(), ask)
        }
        (&Method::DELETE, ["api", "v1", "messages"]) => delete(store, ask),
        (&Method::GET, ["api", "v1", "message", id]) => with(store, id, |mail| json(StatusCode::OK, &whole(mail))),
        (&Method::GET, ["api", "v1", "message", id, "raw"]) => {
            with(store, id, |mail| reply(StatusCode::OK, "text/plain; charset=utf-8", mail.raw.clone()))
        }
        (&Method::GET, ["api", "v1", "message", id, "headers"]) => {
            with(store, id, |mail| json(StatusCode::OK, &headers(mail)))
        }
        _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
    }
}

fn with(store: &Store, id: &str, show: impl Fn(&Mail) -> Reply) -> Reply {
    store
        .find(id)
        .map_or_else(|| json(StatusCode::NOT_FOUND, &json!({ "Error": "message not found" })), |mail| show(&mail))
}

/// `<id>` is the page of a mail, `<id>.html` and `<id>.txt` are its parts.
fn view(store: &Store, name: &str) -> Reply {
    let (id, part) = name.split_once('.').unwrap_or((name, ""));
    with(store, id, |mail| match part {
        "" => pages::mail(mail),
        "html" => pages::html_part(mail),
        "txt" => text(StatusCode::OK, mail.text()),
        _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
    })
}

#[derive(Deserialize, Default)]
struct Deletion {
    /// None means all, as in Mailpit.
    #[serde(rename = "IDs", default)]
    ids: Vec<String>,
}

fn delete(store: &Store, ask: &Ask) -> Reply {
    let deletion =
        if ask.body.is_empty() { Ok(Deletion::default()) } else { serde_json::from_slice::<Deletion>(&ask.body) };
    match deletion {
        Ok(Deletion { ids }) if ids.is_empty() => store.clear(),
        Ok(Deletion { ids }) => store.remove(&ids),
        Err(error) => return json(StatusCode::BAD_REQUEST, &json!({ "Error": error.to_string() })),
    }
    text(StatusCode::OK, "ok")
}

fn list(mut mails: Vec<Arc<Mail>>, total: usize, ask: &Ask) -> Reply {
    let number = |name: &str, default: usize| ask.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (start, limit) = (number("start", 0), number("limit", LIST_DEFAULT));
    mails.reverse();
    let found = mails.len();
    let shown: Vec<Value> = mails.iter().skip(start).take(limit).map(|mail| summary(mail)).collect();
    json(
        StatusCode::OK,
        &json!({
            "total": total, "unread": total, "count": shown.len(), "messages_count": found, "messages_unread": found, "start": start,
            "tags": [], "messages": shown,
        }),
    )
}

/// The words of a query must all be found; `to:`, `from:` and `subject:` look only there, quotes hold words together.
fn matches(mail: &Mail, query: &str) -> bool {
    let contains = |text: &str, word: &str| text.to_lowercase().contains(&word.to_lowercase());
    words(query).iter().all(|word| {
        let (place, what) = word.split_once(':').unwrap_or(("", word));
        match place {
            "to" => mail.to.iter().any(|to| contains(to, what)),
            "from" => contains(&mail.from, what),
            "subject" => contains(&mail.subject(), what),
            _ => {
                mail.to.iter().any(|to| contains(to, word))
                    || contains(&mail.subject(), word)
                    || contains(&mail.text(), word)
            }
        }
    })
}

/// Split at white space, except between quotes.
fn words(query: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in query.chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    // A quote that is never closed holds the rest.
    words.push(word.trim_end().to_owned());
    words.retain(|word| !word.is_empty());
    words
}

fn summary(mail: &Mail) -> Value {
    let text = mail.text();
    let snippet: String =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SNIPPET_MAX_CHARS).collect();
    let mut summary = envelope(mail);
    summary["Created"] = mail.received_text().into();
    summary["Read"] = false.into();
    summary["Snippet"] = snippet.into();
    summary["Attachments"] = mail.attachments().len().into();
    summary
}

fn whole(mail: &Mail) -> Value {
    let mut whole = envelope(mail);
    let parsed = mail.parsed();
    let date = parsed.as_ref().and_then(|mail| mail.date().map(mail_parser::DateTime::to_rfc3339));
    let attachment =
        |(name, kind, size): (String, String, usize)| json!({ "FileName": name, "ContentType": kind, "Size": size });
    whole["ReturnPath"] = mail.from.clone().into();
    whole["Date"] = date.unwrap_or_else(|| mail.received_text()).into();
    whole["Text"] = mail.text().into();
    whole["HTML"] = mail.html().into();
    whole["Inline"] = json!([]);
    whole["Attachments"] = mail.attachments().into_iter().map(attachment).collect();
    whole
}

/// What both forms of a mail have. Recipients that are on the envelope only are blind copies.
fn envelope(mail: &Mail) -> Value {
    let parsed = mail.parsed();
    let parsed = parsed.as_ref();
    let to = addresses(parsed.and_then(|mail| mail.to()));
    let cc = addresses(parsed.and_then(|mail| mail.cc()));
    let named = |address: &str| to.iter().chain(&cc).any(|known| known["Address"] == address);
    let bcc: Vec<Value> = mail
        .to
        .iter()
        .filter(|address| !named(address))
        .map(|address| json!({ "Name": "", "Address": address }))
        .collect();
    json!({
        "ID": mail.id,
        "MessageID": parsed.and_then(|mail| mail.message_id()).unwrap_or_default(),
        "From": addresses(parsed.and_then(|mail| mail.from())).into_iter().next(),
        "To": to, "Cc": cc, "Bcc": bcc,
        "ReplyTo": addresses(parsed.and_then(|mail| mail.reply_to())),
        "Subject": parsed.and_then(|mail| mail.subject()).unwrap_or_default(),
        "Tags": [], "Username": "",
        "Size": mail.raw.len(),
    })
}

fn addresses(header: Option<&Address<'_>>) -> Vec<Value> {
    let address = |found: &mail_parser::Addr<'_>| json!({ "Name": found.name().unwrap_or_default(), "Address": found.address().unwrap_or_default() });
    header.map(|list| list.iter().map(address).collect()).unwrap_or_default()
}

fn headers(mail: &Mail) -> Value {
    let mut headers = serde_json::Map::new();
    if let Some(parsed) = mail.parsed() {
        for (name, value) in parsed.headers_raw() {
            let values = headers.entry(name).or_insert_with(|| json!([]));
            if let Some(values) = values.as_array_mut() {
                values.push(value.trim().into());
            }
        }
    }
    Value::Object(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_words_that_must_all_be_found() {
        let mail = Mail {
            id: "1".into(),
            from: "shop@shop.test".into(),
            to: vec!["ann@example.test".into()],
            raw: b"Subject: Please confirm your address\r\n\r\nFollow the link.\r\n".to_vec(),
            received: 0,
        };
        for found in ["", "to:ann@example.test", "subject:\"confirm your\" link", "from:shop to:ANN", "follow"] {
            assert!(matches(&mail, found), "{found}");
        }
        for not_found in ["to:bob@example.test", "subject:link", "ann nobody"] {
            assert!(!matches(&mail, not_found), "{not_found}");
        }
    }
}
