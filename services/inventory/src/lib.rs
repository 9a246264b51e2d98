//! The inventory service: products, prices, stock, and what is held for orders.
//!
//! An order's goods are held, become the customer's when it is paid, and are free again when it is cancelled or nobody pays in time. See
//! `events.rs` for what it reacts to, `reservation/state.rs` for what follows from what, `stock.rs` for the only statements that move
//! stock, and `http.rs` for the API.

mod app;
mod config;
mod error;
mod events;
mod http;
mod metrics;
mod price;
mod product;
mod reservation;
mod sku;
mod stock;

pub use app::{NAME, build, topology};
pub use config::Config;
