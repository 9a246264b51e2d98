//! The service through its doors: events from a real broker, the API, and a real database behind both.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

mod access;
mod input;
mod interleavings;
mod openapi;
mod processes;
mod products;
mod reservations;
mod restocks;
mod shop;
mod stock;
mod storm;
