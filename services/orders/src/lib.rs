//! The orders service: takes orders, and moves each through stock and payment to an end that leaves nobody owing anybody anything.
//!
//! A request or an event becomes a fact; [`saga::transition`] says what it means; `progress.rs` carries it out in one transaction:
//! the order's row, an entry of its history, what is announced, and the deadline of the new state. See `events.rs` for what it
//! reacts to, `http.rs` for the API, `watch.rs` for the live streams.

mod app;
mod config;
mod customer;
mod error;
mod events;
mod history;
mod http;
mod listing;
mod metrics;
mod order;
mod placing;
mod product;
mod progress;
pub mod saga;
mod watch;

pub use app::{NAME, build, topology};
pub use config::{Config, CustomerOptions, DeadlineOptions, StreamOptions};
