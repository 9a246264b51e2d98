//! The settings: every one a flag and an environment variable. It reads nothing but those.

use std::time::Duration;

use clap::Args;

/// How one process of the service runs.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8082").required(false)))]
pub struct Config {
    /// What every service is told
    #[command(flatten)]
    pub process: process::Options,

    /// Whose access tokens are believed
    #[command(flatten)]
    pub jwks: process::JwksOption,

    /// How long orders wait
    #[command(flatten)]
    pub deadlines: DeadlineOptions,

    /// Live streams
    #[command(flatten)]
    pub streams: StreamOptions,

    /// Orders of one customer
    #[command(flatten)]
    pub limits: CustomerOptions,
}

/// How much one customer may order. Orders are kept, and each is told of by mail, also one that was cancelled at once.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Customers")]
pub struct CustomerOptions {
    /// Orders of one customer that may be under way at once; 0: any number
    #[arg(long, env, value_name = "COUNT", default_value_t = 50)]
    pub max_open_orders_per_customer: u16,

    /// Orders that one customer may place within an hour, whatever became of them; 0: any number
    #[arg(long, env, value_name = "COUNT", default_value_t = 100)]
    pub max_orders_per_customer_and_hour: u16,
}

/// How long an order may wait in each state before it is cancelled.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Deadlines")]
pub struct DeadlineOptions {
    /// How long an order waits for stock, in seconds
    #[arg(long, env, default_value = "300", value_parser = seconds)]
    pub stock_deadline_seconds: Duration,

    /// How long an order waits for its payment, in seconds; longer than the payment provider takes
    #[arg(long, env, default_value = "900", value_parser = seconds)]
    pub payment_deadline_seconds: Duration,

    /// How long a paid order waits for the stock that is held for it, in seconds
    #[arg(long, env, default_value = "300", value_parser = seconds)]
    pub commit_deadline_seconds: Duration,
}

/// The live streams of one process.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct StreamOptions {
    /// How many streams may be open; whoever wants another is told to come back
    #[arg(long, env, default_value = "1000", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_streams: u16,

    /// How many of these one customer may have open
    #[arg(long, env, default_value = "20", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_streams_per_customer: u16,

    /// How long a stream is open at most, in seconds; the client connects again
    #[arg(long, env, default_value = "900", value_parser = seconds)]
    pub stream_seconds: Duration,

    /// How often a stream in which nothing happens says that it is still there, in seconds
    #[arg(long, env, default_value = "15", value_parser = seconds)]
    pub stream_heartbeat_seconds: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "a number of seconds, such as 60 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration < Duration::from_secs(u32::MAX.into()) => Ok(duration),
        _ => Err("more than zero seconds, and not endless".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    fn parse(extra: &[&str]) -> Result<Config, clap::Error> {
        let given = ["orders", "--database-url=postgres://u:secret@db/n", "--amqp-url=amqp://u:secret@mq"];
        Line::try_parse_from(given.iter().chain(extra)).map(|line| line.config)
    }

    #[test]
    fn a_setting_that_cannot_be_meant_stops_the_start() {
        for wrong in
            ["--stock-deadline-seconds=0", "--payment-deadline-seconds=inf", "--max-streams=0", "--listen=8082"]
        {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
        let config = parse(&["--commit-deadline-seconds=0.5"]).unwrap();
        assert_eq!(config.deadlines.commit_deadline_seconds, Duration::from_millis(500));
        assert_eq!(config.process.http.listen.port(), 8082);
    }
}
