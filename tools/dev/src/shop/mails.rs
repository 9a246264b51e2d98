//! What the mailbox holds for somebody.

use anyhow::Result;
use serde_json::Value;

use super::{Shop, eventually};
use crate::{endpoint, http};

const LIST_MAX: usize = 5_000;

/// A mail that arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Its page is `/view/<id>` of the mailbox.
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// Its `Message-ID`: the same when it was sent again.
    pub message_id: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

impl Shop {
    /// All mails to somebody, newest first.
    ///
    /// # Errors
    /// When the mailbox does not answer.
    pub async fn mails_to(&self, email: &str) -> Result<Vec<Mail>> {
        let query = endpoint::encode(&format!("to:{email}"));
        let list = http::get_json(self.mailbox, &format!("/api/v1/search?query={query}&limit={LIST_MAX}")).await?;
        let to = |mail: &&Value| mail["To"].as_array().is_some_and(|to| to.iter().any(|to| to["Address"] == email));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut mails = Vec::new();
        for summary in list["messages"].as_array().into_iter().flatten().filter(to) {
            let id = text(&summary["ID"]);
            let mail = http::get_json(self.mailbox, &format!("/api/v1/message/{}", endpoint::encode(&id))).await?;
            mails.push(Mail {
                id,
                subject: text(&mail["Subject"]),
                message_id: text(&mail["MessageID"]),
                text: text(&mail["Text"]),
                html: text(&mail["HTML"]),
            });
        }
        Ok(mails)
    }

    /// Waits until there are `count` mails about an order to somebody, and answers with all of them, oldest first.
    ///
    /// # Errors
    /// When fewer come.
    pub async fn mails_about(&self, order: &str, email: &str, count: usize) -> Result<Vec<Mail>> {
        eventually(&format!("{count} mail(s) to {email} about the order {order}"), super::PATIENCE, async || {
            let mut mails = self.mails_to(email).await?;
            mails.retain(|mail| mail.text.contains(order));
            mails.reverse();
            Ok((mails.len() >= count).then_some(mails))
        })
        .await
    }

    /// Where people read a mail.
    #[must_use]
    pub fn mail_url(&self, mail: &Mail) -> String {
        format!("http://localhost:{}/view/{}", self.mailbox, mail.id)
    }
}
