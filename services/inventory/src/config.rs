//! The settings: every one a flag and an environment variable. It reads nothing but those.

use std::time::Duration;

use clap::Args;

use crate::events::Rules;

/// A year: nothing is held longer.
const MAX_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

/// How one process of the service runs.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8083").required(false)))]
pub struct Config {
    /// What every service is told
    #[command(flatten)]
    pub process: process::Options,

    /// Whose access tokens count
    #[command(flatten)]
    pub jwks: process::JwksOption,

    /// How long goods are held for an order that is not paid yet, in seconds
    #[arg(long, env, value_name = "SECONDS", default_value = "1800", value_parser = seconds)]
    pub reservation_seconds: Duration,

    /// At or below this many, operations are told that there is little left of a product
    #[arg(long, env, value_name = "COUNT", default_value_t = 5)]
    pub low_stock_threshold: u32,
}

impl Config {
    pub(crate) fn rules(&self) -> Rules {
        Rules { hold_for: self.reservation_seconds, low_stock_threshold: i64::from(self.low_stock_threshold) }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= MAX_SECONDS);
    seconds
        .map(Duration::from_secs_f64)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "more than zero seconds and at most a year, such as 1800 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(extra: &[&str]) -> Result<Config, clap::Error> {
        let given = ["inventory", "--database-url=postgres://u:secret@db/n", "--amqp-url=amqp://u:secret@mq"];
        Cli::try_parse_from(given.iter().chain(extra)).map(|cli| cli.config)
    }

    #[test]
    fn a_setting_that_cannot_be_meant_stops_the_start() {
        for wrong in [
            "--reservation-seconds=0",
            "--reservation-seconds=-1",
            "--reservation-seconds=inf",
            "--reservation-seconds=NaN",
            "--reservation-seconds=1e12",
            "--reservation-seconds=soon",
            "--low-stock-threshold=-1",
            "--listen=8083",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_settings_goods_are_held_for_half_an_hour() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.process.http.listen.port(), 8083);
        assert_eq!(config.rules(), Rules { hold_for: Duration::from_secs(1800), low_stock_threshold: 5 });
        assert_eq!(parse(&["--reservation-seconds=0.5"]).unwrap().rules().hold_for, Duration::from_millis(500));
    }

    #[test]
    fn secrets_are_not_in_what_is_logged_of_the_settings() {
        let config = parse(&[]).unwrap();
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }
}
