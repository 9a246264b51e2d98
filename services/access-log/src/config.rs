//! The settings: every one a flag and an environment variable. It reads nothing but those.

use clap::Args;

/// How one process of the service runs.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8086").required(false)))]
pub struct Config {
    /// What every service is told
    #[command(flatten)]
    pub process: process::Options,

    /// Whose access tokens count
    #[command(flatten)]
    pub jwks: process::JwksOption,

    /// For how many whole days (UTC) before today lines are kept
    #[arg(long, env, value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub access_log_retention_days: u16,
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
        let given = ["access-log", "--database-url=postgres://u:secret@db/n", "--amqp-url=amqp://u:secret@mq"];
        Cli::try_parse_from(given.iter().chain(extra)).map(|cli| cli.config)
    }

    #[test]
    fn a_setting_that_cannot_be_meant_stops_the_start() {
        for wrong in [
            "--access-log-retention-days=0",
            "--access-log-retention-days=-1",
            "--access-log-retention-days=for-ever",
            "--access-log-buffer=-1",
            "--listen=8086",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_settings_lines_are_kept_for_a_month() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.process.http.listen.port(), config.access_log_retention_days), (8086, 30));
        assert_eq!(config.process.access_log_buffer, 4096);
    }

    #[test]
    fn secrets_are_not_in_what_is_logged_of_the_settings() {
        let config = parse(&[]).unwrap();
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }
}
