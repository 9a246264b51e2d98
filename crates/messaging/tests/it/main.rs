//! The guarantees of this crate, one test each, on a real PostgreSQL and a real RabbitMQ.
//!
//! Each test names in its comment the switch (`without("…")` in `src/`) that takes its guarantee away and makes it fail; `cargo dev test --mutants`
//! runs every test with its switch and fails when one passes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod allocations;
mod budgets;
mod collecting;
mod consuming;
mod failing;
mod measuring;
mod ordering;
mod outages;
mod processes;
mod publishing;
mod replaying;
mod scheduling;
mod shutdown;
mod support;
mod topology;
mod tracing_context;
mod tracing_spans;
mod working;
