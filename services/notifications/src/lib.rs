//! The notifications service: e-mails that follow from events.
//!
//! An event from `users`, `orders`, `payments` or `inventory` becomes a row (the intent) in the handler's transaction; a leased
//! worker takes it to the mail server and announces what became of it. A letter about an order may come before the account's
//! address, which another service announces; it then waits for it. [`build`] puts one process of it together. See `events.rs`
//! for what it reacts to, `send_email.rs` for how a mail is sent, `http.rs` for the API.

mod app;
mod config;
mod details;
mod error;
mod events;
mod housekeeping;
mod http;
mod intent;
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
mod words;

pub use app::{NAME, build, topology};
pub use config::{Config, MailConfig};
