//! The settings: every one a flag and an environment variable. It reads nothing but those.

use std::time::Duration;

use clap::Args;

use crate::provider::SimulatedOptions;

/// How long a call of the provider may take, beside the time that its answers travel.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// How one process of the service runs.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8084").required(false)))]
pub struct Config {
    /// What every service is told
    #[command(flatten)]
    pub process: process::Options,

    /// Whose access tokens are believed
    #[command(flatten)]
    pub jwks: process::JwksOption,

    /// Who moves the money
    #[command(flatten)]
    pub provider: ProviderConfig,
}

/// The provider, and how it is asked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Payments")]
pub struct ProviderConfig {
    /// How long the simulated provider takes for pm_slow, in seconds
    #[arg(long, env, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub provider_slow_seconds: Duration,

    /// How long every answer of the simulated provider travels, in milliseconds
    #[arg(long, env, value_name = "MILLISECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=600_000))]
    pub provider_latency_milliseconds: u32,

    /// How many payments are charged at the same time, and how many given back
    #[arg(long, env, value_name = "PAYMENTS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub payment_concurrency: u16,

    /// How long to wait after a call that failed, in seconds; doubled after each further one, up to 32 times as long
    #[arg(long, env, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub payment_retry_seconds: Duration,
}

impl ProviderConfig {
    /// How the simulated provider behaves.
    pub(crate) fn simulated(&self) -> SimulatedOptions {
        SimulatedOptions { slow: self.provider_slow_seconds, latency: self.latency() }
    }

    /// How long one call may take. What takes longer failed, and is asked again.
    pub(crate) fn call_deadline(&self) -> Duration {
        CALL_DEADLINE + self.latency()
    }

    /// The longest wait between two calls for one payment.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.payment_retry_seconds * 32
    }

    /// How often work that has come due is looked for.
    pub(crate) fn poll(&self) -> Duration {
        self.payment_retry_seconds.clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    fn latency(&self) -> Duration {
        Duration::from_millis(self.provider_latency_milliseconds.into())
    }
}

/// Up to a day, as a decimal number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| !time.is_zero() && time.as_secs() <= 24 * 3600)
        .ok_or_else(|| "a number of seconds, more than 0 and at most 86400".to_owned())
}
