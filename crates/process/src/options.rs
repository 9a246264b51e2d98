//! The settings and commands that every service has.

use std::ffi::OsString;

use clap::{Args, FromArgMatches as _, Subcommand};
use secrecy::SecretString;

use crate::Replay;

/// What every service is told: flags, or the environment.
#[derive(Clone, Debug, Args)]
#[group(id = "process")] // clap names groups by the struct, and telemetry's settings have the same name
pub struct Options {
    /// The service's own database, as postgres://role:password@host:port/name
    #[arg(long, env, value_name = "URL", hide_env_values = true)]
    pub database_url: SecretString,

    /// The broker, as the service's own user: amqp://user:password@host:port/vhost. Of a cluster all nodes are named, as host:port,host:port
    #[arg(long, env, value_name = "URL", hide_env_values = true)]
    pub amqp_url: SecretString,

    /// The broker's management API, as http://user:password@host:port; with it the start also verifies bindings and policies. Of a cluster
    /// all nodes are named here, too
    #[arg(long, env, value_name = "URL", hide_env_values = true)]
    pub rabbitmq_management_url: Option<SecretString>,

    /// How many lines of the access log wait in memory for the broker at most; further ones are dropped and counted. 0 writes none
    #[arg(long, env, value_name = "LINES", default_value_t = 4096)]
    pub access_log_buffer: u16,

    /// Where to listen, and the limits of requests
    #[command(flatten)]
    pub http: web::HttpOptions,

    /// Logs, traces, metrics
    #[command(flatten)]
    pub telemetry: telemetry::Options,
}

/// For services that are asked by people: whose signatures they believe.
#[derive(Clone, Debug, Args)]
pub struct JwksOption {
    /// Where the keys are that sign access tokens
    #[arg(long, env, value_name = "URL", default_value = "http://127.0.0.1:8081/.well-known/jwks.json")]
    pub jwks_url: String,
}

impl JwksOption {
    /// Verifies access tokens with those keys.
    #[must_use]
    pub fn verifier(&self) -> web::auth::Verifier {
        web::auth::Verifier::from_jwks_url(&self.jwks_url)
    }
}

/// The commands of a service, with its settings `C`. Without one it serves.
#[derive(Debug, Subcommand)]
pub enum Command<C: Args> {
    /// Serve until SIGTERM or SIGINT, then finish what is in hand
    Serve(Box<C>),
    /// Print what this service needs of the broker, as JSON
    Topology,
    /// Send what this service announced once more, to one consumer: its queue was lost, or it is new
    Replay(Box<Replay<C>>),
}

impl<C: Args> Command<C> {
    /// Reads the command line and the environment of this process; prints help or a mistake, and exits.
    #[must_use]
    pub fn from_args(service: &'static str, version: &'static str) -> Self {
        Self::try_from(service, version, std::env::args_os().collect()).unwrap_or_else(|mistake| mistake.exit())
    }

    fn try_from(service: &'static str, version: &'static str, mut args: Vec<OsString>) -> Result<Self, clap::Error> {
        let named = args.get(1).and_then(|arg| arg.to_str());
        let named =
            named.is_some_and(|arg| !arg.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&arg));
        if !named {
            args.insert(1.min(args.len()), "serve".into());
        }
        let command = Self::augment_subcommands(clap::Command::new(service).version(version));
        Self::from_arg_matches(&command.try_get_matches_from(args)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[derive(Args, Debug)]
    #[command(mut_arg("listen", |listen| listen.default_value("127.0.0.1:8099").required(false)))]
    struct Config {
        #[command(flatten)]
        process: Options,
    }

    const NEEDED: [&str; 2] = ["--database-url=postgres://u:secret@db/n", "--amqp-url=amqp://u:secret@mq"];

    fn parse(args: &[&str]) -> Result<Command<Config>, clap::Error> {
        Command::try_from("parcels", "1.0.0", [&["parcels"], args].concat().into_iter().map(OsString::from).collect())
    }

    #[test]
    fn without_a_command_it_serves_on_the_services_own_port() {
        for named in [&["serve"][..], &[]] {
            let Ok(Command::Serve(config)) = parse(&[named, &NEEDED].concat()) else { panic!("{named:?}") };
            assert_eq!(config.process.http.listen.port(), 8099);
        }
        assert!(matches!(parse(&["topology"]), Ok(Command::Topology)));
    }

    #[test]
    fn a_replay_says_to_whom_and_from_when() {
        let whole = [&["replay", "--to=inventory", "--since=2026-01-31T12:00:00Z"], &NEEDED[..]].concat();
        let Ok(Command::Replay(replay)) = parse(&whole) else { panic!("{whole:?}") };
        assert_eq!((replay.to.as_str(), replay.since.unwrap().timestamp()), ("inventory", 1_769_860_800));
        assert!(parse(&[&["replay"], &NEEDED[..]].concat()).is_err(), "to nobody");
        assert!(parse(&[&["replay", "--to=inventory", "--since=yesterday"], &NEEDED[..]].concat()).is_err());
    }

    #[test]
    fn help_and_mistakes_are_told() {
        assert_eq!(parse(&["--help"]).unwrap_err().kind(), ErrorKind::DisplayHelp);
        assert_eq!(parse(&["--version"]).unwrap_err().kind(), ErrorKind::DisplayVersion);
        assert_eq!(parse(&["sreve"]).unwrap_err().kind(), ErrorKind::InvalidSubcommand);
        assert!(parse(&[&NEEDED[..], &["--listen=8099"]].concat()).is_err());
    }

    #[test]
    fn secrets_are_not_in_what_is_logged_of_the_settings() {
        let config = parse(&NEEDED).unwrap();
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }
}
