#![doc = include_str!("../README.md")]

mod admission;
pub mod auth;
mod body;
mod client;
mod client_addr;
mod connection;
pub mod etag;
mod exchange;
mod extract;
mod health;
mod moment;
mod observer;
mod openapi;
mod options;
pub mod page;
mod problem;
mod route;
mod server;
mod stop;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use client_addr::ClientAddr;
pub use extract::{Json, Path, Query};
pub use health::Readiness;
pub use moment::Moment;
pub use observer::Finished;
pub use options::HttpOptions;
pub use page::Page;
pub use problem::{FieldError, Problem, ProblemBody};
pub use server::{BoundServer, Server};
pub use stop::stop_signal;
