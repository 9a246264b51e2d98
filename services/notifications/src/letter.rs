//! Letters: the words of each mail. Both versions of a mail, HTML and text, are laid out from the same letter, so they
//! cannot say different things. It sends nothing and stores nothing.

mod accounts;
mod layout;
mod orders;
#[cfg(test)]
mod tests;

use askama::Template as _;
use chrono::{DateTime, Utc};

use crate::{details::Details, state::Template};

/// One letter, ready to be laid out.
pub(crate) struct Letter {
    pub(crate) subject: String,
    heading: String,
    greeting: String,
    paragraphs: Vec<String>,
    table: Option<Table>,
    action: Option<Action>,
    after: Vec<String>,
    shop: String,
    why: String,
}

/// The one thing that a reader may want to do.
struct Action {
    label: &'static str,
    link: String,
}

/// What was ordered.
struct Table {
    head: Row,
    rows: Vec<Row>,
    /// Stands below the last column.
    total: String,
}

/// A name and three numbers.
type Row = [String; 4];

/// What every letter needs to know.
pub(crate) struct Occasion<'a> {
    /// The name of the shop.
    pub(crate) shop: &'a str,
    /// Where the pages of the accounts are; no slash at the end.
    pub(crate) users_url: &'a str,
    /// The name to greet with.
    pub(crate) name: Option<&'a str>,
    /// The token of the link, for letters that have one.
    pub(crate) token: Option<&'a str>,
    /// What the letter tells, for letters about orders and stock.
    pub(crate) details: Option<&'a Details>,
    /// The end of the token.
    pub(crate) expires_at: DateTime<Utc>,
    /// When it happened that the letter is about.
    pub(crate) occurred_at: DateTime<Utc>,
}

impl Letter {
    /// Writes the letter. `None` if its token or what it tells is missing.
    pub(crate) fn write(template: Template, occasion: &Occasion<'_>) -> Option<Self> {
        Some(match template {
            Template::VerifyEmail => Self::verify_email(occasion, occasion.token?),
            Template::ResetPassword => Self::reset_password(occasion, occasion.token?),
            Template::PasswordChanged => Self::password_changed(occasion),
            Template::AccountExists => Self::account_exists(occasion),
            Template::OrderConfirmed | Template::OrderCancelled | Template::PaymentRefunded | Template::StockLow => {
                Self::about(occasion.details?, occasion)
            }
        })
    }

    /// The HTML version.
    pub(crate) fn html(&self) -> Result<String, askama::Error> {
        Html { letter: self }.render()
    }

    /// The text version: the same words in lines of at most 72 columns, links whole.
    pub(crate) fn text(&self) -> Result<String, askama::Error> {
        let table = self.table.as_ref().map(layout::table);
        let text = Text { letter: self, table: table.as_deref() }.render()?;
        Ok(text.lines().map(|line| layout::wrap(line, layout::WIDTH) + "\n").collect())
    }
}

#[derive(askama::Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    letter: &'a Letter,
}

#[derive(askama::Template)]
#[template(path = "letter.txt", escape = "none")]
struct Text<'a> {
    letter: &'a Letter,
    /// Laid out already.
    table: Option<&'a str>,
}

fn greeting(name: Option<&str>) -> String {
    name.map_or_else(|| "Hello,".into(), |name| format!("Hello {name},"))
}

/// A moment that nobody has to convert in their head twice: day in words, time zone said.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %B %Y at %H:%M UTC").to_string()
}
