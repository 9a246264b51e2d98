//! The settings: every one a flag and an environment variable. It reads nothing but those.

use std::time::Duration;

use clap::Args;
use lettre::message::Mailbox;
use secrecy::SecretString;

/// The settings.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8085").required(false)))]
pub struct Config {
    /// What every service is told
    #[command(flatten)]
    pub process: process::Options,

    /// Whose access tokens are believed
    #[command(flatten)]
    pub jwks: process::JwksOption,

    /// For how many days a notification is kept that is over: sent, given up, expired or cancelled
    #[arg(long, env, value_name = "DAYS", default_value = "90", value_parser = clap::value_parser!(u16).range(1..))]
    pub notification_retention_days: u16,

    /// What the letters look like and where they go
    #[command(flatten)]
    pub mail: MailConfig,
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

    /// Who is told when there is little left of a product
    #[arg(long, env, default_value = "operations@postrider.example")]
    pub operations_email: Mailbox,

    /// The name of the shop in subjects and letters
    #[arg(long, env, default_value = "Postrider")]
    pub shop_name: String,

    /// Where people reach the accounts service; links begin with it
    #[arg(long, env, default_value = "http://localhost:8081", value_parser = web_address)]
    pub users_url: String,

    /// How long the mail server may take until it wants a mail, in seconds
    #[arg(long, env, default_value = "20", value_parser = seconds)]
    pub smtp_timeout_seconds: Duration,

    /// How long the mail server may take for a mail and the answer after its last line, in seconds; one that is left before
    /// may get the mail twice
    #[arg(long, env, default_value = "120", value_parser = seconds)]
    pub smtp_answer_timeout_seconds: Duration,

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
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        config: Config,
    }

    fn parse(extra: &[&str]) -> Result<Config, clap::Error> {
        let given = ["notifications", "--database-url=postgres://u:secret@db/n", "--amqp-url=amqp://u:secret@mq"];
        Arguments::try_parse_from(given.iter().chain(extra)).map(|arguments| arguments.config)
    }

    #[test]
    fn a_setting_that_cannot_be_meant_stops_the_start() {
        for wrong in [
            "--users-url=ftp://x",
            "--users-url=https://x/?a=b",
            "--smtp-timeout-seconds=0",
            "--smtp-timeout-seconds=inf",
            "--smtp-answer-timeout-seconds=0",
            "--mail-from=nobody",
            "--operations-email=nobody",
            "--notification-retention-days=0",
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
