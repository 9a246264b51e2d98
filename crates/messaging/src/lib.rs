#![doc = include_str!("../README.md")]

mod broker;
mod consumer;
mod context;
mod dead_letters;
mod envelope;
mod error;
mod event;
mod handler;
mod health;
pub mod journal;
mod meters;
mod mutants;
mod outbox;
pub mod pool;
mod publisher;
mod relay;
mod retry;
pub mod topology;
mod transaction;
mod worker;

pub use broker::{Broker, BrokerOptions};
pub use consumer::{Consumer, ConsumerOptions, TraceMode};
pub use dead_letters::{DeadLetter, DeadLetterDetail, DeadLetters, Filter, Group};
pub use envelope::Envelope;
pub use error::{Error, HandlerError};
pub use event::{Audience, Event, LANES, MAX_PAYLOAD_BYTES, PublishError, lane};
pub use handler::Handler;
pub use health::Check;
pub use journal::Replay;
pub use outbox::{Outbox, Retention};
pub use relay::{Progress, Relay, RelayOptions};
pub use retry::RetryPolicy;
pub use transaction::OutboxTransaction;
pub use worker::{Job, Outcome, Task, TaskError, Worker};
