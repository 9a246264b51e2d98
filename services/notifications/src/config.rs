//! The settings: every one a flag and an environment variable. It reads nothing but those.

use std::time::Duration;

use clap::{Args, Parser};
use lettre::message::Mailbox;
use secrecy::SecretString;

/// Commands of the service. Without one it serves.
#[derive(Debug, Parser)]
#[command(name = "notifications", version, about)]
pub enum Command {
    /// Serves until SIGTERM or SIGINT, then finishes what is in hand
    Serve(Box<Config>),
    /// Prints this service's part of the broker's topology as JSON
    Topology,
}

impl Command {
    /// The command of this process; `serve` if none is named.
    pub fn from_args() -> Self {
        let mut args: Vec<_> = std::env::args_os().collect();
        let named = args
            .get(1)
            .and_then(|arg| arg.to_str())
            .is_some_and(|arg| !arg.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&arg));
        if !named {
            args.insert(1.min(args.len()), "serve".into());
        }
        Self::parse_from(args)
    }
}

/// How one process of the service runs.
#[derive(Clone, Debug, Parser)]
#[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8085").required(false)))]
pub struct Config {
    /// The service's own database, as postgres://role:password@host:port/name
    #[arg(long, env, hide_env_values = true)]
    pub database_url: SecretString,

    /// The broker, as amqp://user:password@host:port/vhost
    #[arg(long, env, hide_env_values = true)]
    pub amqp_url: SecretString,

    /// The broker's management API, as http://user:password@host:port; with it the start also verifies bindings and policies
    #[arg(long, env, hide_env_values = true)]
    pub rabbitmq_management_url: Option<SecretString>,

    /// Where the keys are that sign access tokens
    #[arg(long, env, default_value = "http://127.0.0.1:8081/.well-known/jwks.json")]
    pub jwks_url: String,

    /// What the letters look like and where they go
    #[command(flatten)]
    pub mail: MailConfig,

    /// The HTTP side
    #[command(flatten)]
    pub http: web::HttpOptions,

    /// Traces and logs
    #[command(flatten)]
    pub telemetry: telemetry::Options,
}

/// The mail server and the sender.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Mail")]
pub struct MailConfig {
    /// The mail server: smtp://host:port, smtp://user:password@host?tls=required or smtps://user:password@host
    #[arg(long, env, hide_env_values = true, default_value = "smtp://127.0.0.1:1025")]
    pub smtp_url: SecretString,

    /// Who the mails are from; its domain also names them (Message-ID)
    #[arg(long, env, default_value = "shop@postrider.example")]
    pub mail_from: Mailbox,

    /// The name of the shop in subjects and letters
    #[arg(long, env, default_value = "Postrider")]
    pub shop_name: String,

    /// Where people reach the accounts service; links begin with it
    #[arg(long, env, default_value = "http://localhost:8081", value_parser = web_address)]
    pub users_url: String,

    /// How long the mail server may take for one mail, in seconds
    #[arg(long, env, default_value = "20", value_parser = seconds)]
    pub smtp_timeout_seconds: Duration,

    /// How long to wait after the first failed attempt, in seconds; doubled after each further one, up to an hour
    #[arg(long, env, default_value = "5", value_parser = seconds)]
    pub mail_retry_seconds: Duration,

    /// How often the mail server may fail to take a mail before it is given up; with the default waits, after about a day
    #[arg(long, env, default_value = "32", value_parser = clap::value_parser!(u32).range(1..))]
    pub mail_max_attempts: u32,

    /// How many mails are sent at the same time
    #[arg(long, env, default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub mail_concurrency: u16,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "a number of seconds, such as 60 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("more than zero seconds, and not endless".into()),
    }
}

fn web_address(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    if !["http", "https"].contains(&url.scheme()) || url.query().is_some() || url.fragment().is_some() {
        return Err("an http(s) address without query and fragment, such as https://shop.example".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> Result<Config, clap::Error> {
        let given = ["notifications", "--database-url=postgres://u:secret@db/n", "--amqp-url=amqp://u:secret@mq"];
        Config::try_parse_from(given.iter().chain(extra))
    }

    #[test]
    fn a_setting_that_cannot_be_meant_stops_the_start() {
        for wrong in [
            "--users-url=ftp://x",
            "--users-url=https://x/?a=b",
            "--smtp-timeout-seconds=0",
            "--smtp-timeout-seconds=inf",
            "--mail-from=nobody",
            "--mail-max-attempts=0",
            "--listen=8085",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
        assert_eq!(parse(&["--users-url=https://shop.example/"]).unwrap().mail.users_url, "https://shop.example");
    }

    #[test]
    fn secrets_are_not_in_what_is_logged_of_the_settings() {
        let config = parse(&["--smtp-url=smtps://u:secret@mail"]).unwrap();
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }
}
