//! What a client sees: a real server on a free port, real connections.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::expect_used, reason = "a test fails by panicking")]

mod admitting;
mod app;
mod auth;
mod bodies;
mod health;
mod limits;
mod observing;
mod routes;
mod stopping;
mod traces;
