//! The users service: accounts, sessions and roles. It signs the access tokens that all services believe, and it is the only one that knows
//! an e-mail address by itself. It sends no mail: it says what happened, and notifications writes.

mod app;
pub mod config;
mod email;
mod error;
mod housekeeping;
mod http;
mod metrics;
mod one_time_token;
mod password;
mod session;
mod signing_key;
mod throttle;
mod token;
mod user;

pub use app::{App, NAME, topology};
pub use config::Config;
pub use password::Passwords;
