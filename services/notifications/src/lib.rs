//! The notifications service: e-mails that follow from events.
//!
//! An event from `users` becomes a row (the intent) in the handler's transaction; a leased worker takes it to the mail server
//! and announces what became of it. [`App`] is one process of it. See `events.rs` for what it reacts to, `send_email.rs` for
//! how a mail is sent, `http.rs` for the API.

mod app;
mod config;
mod error;
mod events;
mod http;
mod letter;
mod listing;
mod mail;
mod metrics;
mod notification;
mod recipient;
mod redact;
mod send_email;
mod smtp;
mod smtp_server;
mod state;

pub use app::{App, topology};
pub use config::{Command, Config, MailConfig};
