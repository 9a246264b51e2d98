//! The access-log service: a line for each request that any service answered, for operators to search and to sum up.
//!
//! Services write their lines fire-and-forget (`process/src/access_log.rs`, `messaging/src/logs.rs`), this one among them: one line is one
//! message, and taking it in is no request, so nothing loops. See `events.rs` for what becomes of a batch of them, `line.rs` for how it is
//! stored, `partitions.rs` for how long, and `http.rs` for the API.

mod app;
mod config;
mod error;
mod events;
mod http;
mod line;
mod listing;
mod metrics;
mod partitions;
mod summary;

pub use app::{NAME, build, topology};
pub use config::Config;
