//! Mails: a letter with its headers, as it goes to the mail server. It opens no connection and reads no database.

use failpoints::without;
use lettre::{
    Message,
    address::AddressError,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    letter::{Letter, Occasion},
    notification::Notification,
    recipient::Recipient,
};

/// Writes mails in the name of one shop.
pub(crate) struct Composer {
    from: Mailbox,
    shop: String,
    users_url: String,
}

/// Why a mail cannot be composed.
#[derive(Debug, Error)]
pub(crate) enum ComposeError {
    /// What `users` announced is no address that mail can go to. The address is not repeated.
    #[error("the address is not one that mail can be sent to")]
    Address(#[source] AddressError),
    /// The token is gone, or what the letter tells.
    #[error("the letter has lost its link or its details")]
    Incomplete,
    /// A mistake in a template.
    #[error("the template cannot be rendered: {0}")]
    Template(#[from] askama::Error),
    /// A mistake in a header.
    #[error("the mail cannot be put together: {0}")]
    Mail(#[from] lettre::error::Error),
}

impl Composer {
    /// `from` without a name of its own gets the name of the shop.
    pub(crate) fn new(from: Mailbox, shop: &str, users_url: &str) -> Self {
        let from = Mailbox { name: from.name.or_else(|| Some(shop.to_owned())), ..from };
        Self { from, shop: shop.to_owned(), users_url: users_url.trim_end_matches('/').to_owned() }
    }

    /// The Message-ID (RFC 5322 §3.6.4) of a notification's mail.
    pub(crate) fn message_id(&self, notification_id: Uuid) -> String {
        format!("<{notification_id}@{}>", self.from.email.domain())
    }

    /// The mail of a notification. Composed again for a later attempt it is the same mail: same Message-ID, same date.
    pub(crate) fn compose(&self, notification: &Notification, to: &Recipient) -> Result<Message, ComposeError> {
        let name = to.greeting_name();
        let occasion = Occasion {
            shop: &self.shop,
            users_url: &self.users_url,
            name: name.as_deref(),
            token: notification.content.as_ref().map(|content| content.token.as_str()),
            details: notification.details.as_ref().map(|details| &details.0),
            expires_at: notification.expires_at,
            occurred_at: notification.occurred_at,
        };
        let letter = Letter::write(notification.template, &occasion).ok_or(ComposeError::Incomplete)?;
        let address = to.email.parse().map_err(ComposeError::Address)?;
        let mut mail = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(name, address))
            .subject(&letter.subject)
            .date(notification.queued_at.into())
            .message_id(Some(if without("mail-ids") {
                self.message_id(Uuid::new_v4())
            } else {
                notification.message_id.clone()
            }))
            // RFC 3834: keeps holiday replies and mailing lists from answering. No `Precedence` and no `List-*` headers:
            // this is a letter to one person about their own business, not bulk mail.
            .raw_header(header("Auto-Submitted", "auto-generated"));
        if let Some(trace_id) = &notification.trace_id {
            mail = mail.raw_header(header("X-Trace-Id", trace_id));
        }
        Ok(mail.multipart(MultiPart::alternative_plain_html(letter.text()?, letter.html()?))?)
    }
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}
