//! The payments service: takes the money for orders, and gives it back.
//!
//! An event from `orders` becomes a row (the intent) in the handler's transaction; leased workers ask the provider, outside of any
//! transaction, and record and announce what it said. See `events.rs` for what the service reacts to, `state.rs` for how a payment moves,
//! `charge.rs` and `give_back.rs` for how the provider is asked, `provider.rs` for what is needed of it, `http.rs` for the API.

mod app;
mod cancelled_order;
mod charge;
mod config;
mod error;
mod events;
mod give_back;
mod http;
mod metrics;
mod payment;
pub mod provider;
mod settle;
mod state;

pub use app::{NAME, build, build_with, topology};
pub use config::{Config, ProviderConfig};
pub use state::DeclineReason;
