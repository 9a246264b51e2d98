#![doc = include_str!("../README.md")]

mod access_log;
mod options;
mod parts;
mod pools;
mod replay;
mod run;
mod topology;

pub use options::{BacklogOptions, Command, Connections, Contradiction, JwksOption, Options};
pub use parts::Process;
pub use replay::Replay;
pub use run::main;
pub use topology::topology;
