//! The service through its doors: events in and out of a real broker, the API in between; and a model of the whole saga.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

mod access;
mod crashing;
mod model;
mod placing;
mod racing;
mod reading;
mod saga;
mod shop;
mod streaming;
