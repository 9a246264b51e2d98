//! Proxies that understand what RabbitMQ and PostgreSQL are told, to lose, delay or cut exactly what a proof wants lost.
//!
//! One [`Proxy`] stands before one engine. It learns from the conversation itself whose a connection is, so that a [`Fault`] can be aimed at
//! one service; each [`Injection`] counts how often it bit, which is the evidence. Without a fault every byte passes as it came.
//!
//! ```no_run
//! # async fn shown() -> std::io::Result<()> {
//! use wire::{Aim, Fault, Proxy};
//!
//! let proxy = Proxy::postgres("127.0.0.1:5432").await?;
//! // … the services connect to proxy.address() …
//! let lost = proxy.inject(&Aim::at("orders"), Fault::LoseCommitReply);
//! // … orders commits, and never hears that it did …
//! assert_eq!(lost.count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! It decides nothing about what is right afterwards, and it does not speak TLS: a client that would like to is told that there is none, and
//! what it cannot read it passes on unread.

mod amqp;
mod connection;
mod fault;
mod injection;
mod postgres;
mod proxy;
mod speech;

pub use fault::{Aim, Fault, Role};
pub use injection::Injection;
pub use proxy::Proxy;
