//! `cargo dev`: starts the whole system on one machine, tests it, checks it.
//!
//! Tests of the services use two parts of it as a library: [`mailbox`], an SMTP server that keeps what it is sent, and
//! [`traces`], a receiver for spans. The system tests use [`stack`],
//! [`shop`] and [`http`]. Nothing here runs in production.

mod backend;
mod bench;
mod binaries;
mod check;
mod cli;
mod commands;
mod console;
mod dashboards;
mod demo;
mod dev_page;
mod docker;
mod endpoint;
mod engines;
mod explain;
mod files;
mod fuzz;
pub mod http;
mod http_server;
mod install;
mod look;
pub mod mailbox;
pub mod monitoring;
mod prepare;
mod process;
mod programs;
mod prove;
mod replicas;
mod sample;
mod seed;
mod services;
pub mod shop;
pub mod stack;
mod state;
mod switches;
mod tail;
mod test;
mod test_summary;
mod topology;
pub mod traces;
mod workspace;

pub use cli::main;
