//! The mails, in memory, oldest out when there are too many. Reading MIME is done here and nowhere else.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use mail_parser::{DateTime, Message, MessageParser, MimeHeaders};
use tokio::sync::watch;

const MAILS_MAX: usize = 2_000;
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// A mail as it was taken.
#[derive(Debug)]
pub struct Mail {
    /// Names it in the API and on the page.
    pub id: String,
    /// The sender on the envelope; empty for a bounce.
    pub from: String,
    /// The recipients on the envelope.
    pub to: Vec<String>,
    /// Headers and body, byte for byte as they were sent, dots unstuffed.
    pub raw: Vec<u8>,
    /// When it was taken, in seconds since 1970.
    pub received: i64,
}

impl Mail {
    /// The subject, decoded.
    #[must_use]
    pub fn subject(&self) -> String {
        self.parsed().and_then(|mail| mail.subject().map(str::to_owned)).unwrap_or_default()
    }

    /// The text part, decoded; the HTML part made readable when there is no other.
    #[must_use]
    pub fn text(&self) -> String {
        self.parsed().and_then(|mail| mail.body_text(0).map(|text| text.replace("\r\n", "\n"))).unwrap_or_default()
    }

    /// The HTML part, decoded; empty when there is none.
    #[must_use]
    pub fn html(&self) -> String {
        let Some(mail) = self.parsed() else { return String::new() };
        let html = mail.html_bodies().find(|part| part.is_text_html());
        html.and_then(|part| part.text_contents()).unwrap_or_default().to_owned()
    }

    /// A header's value as it was sent, unfolded; the first of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mail = self.parsed()?;
        let (_, value) = mail.headers_raw().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value.split(['\r', '\n']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }

    pub(super) fn parsed(&self) -> Option<Message<'_>> {
        MessageParser::default().parse(&self.raw)
    }

    /// When it was taken, as RFC 3339.
    pub(super) fn received_text(&self) -> String {
        DateTime::from_timestamp(self.received).to_rfc3339()
    }

    /// Name and type of each attachment, with its size.
    pub(super) fn attachments(&self) -> Vec<(String, String, usize)> {
        let Some(mail) = self.parsed() else { return Vec::new() };
        let describe = |part: &mail_parser::MessagePart<'_>| {
            let kind = part.content_type().map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("*")));
            let name = part.attachment_name().unwrap_or("unnamed").to_owned();
            (name, kind.unwrap_or_else(|| "application/octet-stream".to_owned()), part.contents().len())
        };
        mail.attachments().map(describe).collect()
    }
}

pub(super) struct Store {
    mails: Mutex<VecDeque<Arc<Mail>>>,
    count: AtomicU32,
    changes: watch::Sender<()>,
    keeps_all: AtomicBool,
}

impl Default for Store {
    fn default() -> Self {
        let (count, keeps_all) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { mails: Mutex::default(), count, changes: watch::Sender::new(()), keeps_all }
    }
}

impl Store {
    /// From now on nothing is thrown away: all of it is evidence.
    pub(super) fn keep_all(&self) {
        self.keeps_all.store(true, Ordering::Relaxed);
    }

    pub(super) fn add(&self, from: String, to: Vec<String>, raw: Vec<u8>) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Unique also after a restart, so that a page that is still open shows no other mail.
        let id = format!("{:x}{:04x}", now.as_micros(), self.count.fetch_add(1, Ordering::Relaxed) & 0xffff);
        let received = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut mails = self.lock();
        mails.push_back(Arc::new(Mail { id: id.clone(), from, to, raw, received }));
        let keeps_all = self.keeps_all.load(Ordering::Relaxed);
        let mut bytes: usize = if keeps_all { 0 } else { mails.iter().map(|mail| mail.raw.len()).sum() };
        while !keeps_all && mails.len() > MAILS_MAX || (bytes > BYTES_MAX && mails.len() > 1) {
            bytes -= mails.pop_front().map_or(0, |mail| mail.raw.len());
        }
        drop(mails);
        self.changes.send_replace(());
        id
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Mail>> {
        self.lock().iter().cloned().collect()
    }

    /// By id; `latest` is the newest, as in Mailpit.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Mail>> {
        let mails = self.lock();
        if id == "latest" { mails.back().cloned() } else { mails.iter().find(|mail| mail.id == id).cloned() }
    }

    pub(super) fn remove(&self, ids: &[String]) {
        self.lock().retain(|mail| !ids.contains(&mail.id));
        self.changes.send_replace(());
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
        self.changes.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Mail>>> {
        // Nothing panics while it is held; if it did, the mails would still be mails.
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_mails_make_room() {
        let store = Store::default();
        let first = store.add("a@example.test".into(), vec![], b"one".to_vec());
        for _ in 0..MAILS_MAX {
            store.add("a@example.test".into(), vec![], b"more".to_vec());
        }
        assert_eq!(store.all().len(), MAILS_MAX);
        assert!(store.find(&first).is_none());
    }

    #[test]
    fn no_mail_makes_room_where_all_are_evidence() {
        let store = Store::default();
        store.keep_all();
        let first = store.add("a@example.test".into(), vec![], b"one".to_vec());
        for _ in 0..MAILS_MAX {
            store.add("a@example.test".into(), vec![], b"more".to_vec());
        }
        assert!(store.find(&first).is_some());
    }

    #[test]
    fn a_mail_is_decoded() {
        let raw = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Long: one\r\n  two\r\nMIME-Version: 1.0\r\n\
                    Content-Type: multipart/alternative; boundary=b\r\n\r\n\
                    --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSch=C3=B6n=\r\n!\r\n\
                    --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+aGk8L2I+\r\n--b--\r\n";
        let mail = Mail { id: "1".into(), from: String::new(), to: vec![], raw: raw.to_vec(), received: 0 };
        assert_eq!(mail.subject(), "Grüße");
        assert_eq!(mail.text().trim(), "Schön!");
        assert_eq!(mail.html(), "<b>hi</b>");
        assert_eq!(mail.header("x-long").as_deref(), Some("one two"));
        assert_eq!(mail.received_text(), "1970-01-01T00:00:00Z");
    }
}
