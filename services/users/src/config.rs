//! The settings of this service, from the command line or the environment. Nothing else reads either.

use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

/// The settings.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8081").required(false)))]
// Whoever logs in holds a place while a password is hashed, and not only while the database is asked.
#[command(mut_arg("http", |arg| arg.default_value("16")))]
pub struct Config {
    /// What every service is told
    #[command(flatten)]
    pub process: process::Options,

    /// The address of the first operator, who is made at the start if there is none
    #[arg(long, env, value_name = "ADDRESS", requires = "operator_password")]
    pub operator_email: Option<String>,

    /// The password of the first operator; it follows the same rules as everybody's
    #[arg(long, env, value_name = "PASSWORD", hide_env_values = true, requires = "operator_email")]
    pub operator_password: Option<SecretString>,

    /// A signing key is followed by a new one after this many days
    #[arg(long, env, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    pub signing_key_days: u16,

    /// Registrations and other requests for mails from one network within ten minutes; 0: any number
    #[arg(long, env, value_name = "COUNT", default_value_t = 100)]
    pub mails_per_network: u16,
}

impl Config {
    /// See [`Config::signing_key_days`].
    pub fn signing_key_age(&self) -> Duration {
        Duration::from_secs(u64::from(self.signing_key_days) * 24 * 3600)
    }
}
