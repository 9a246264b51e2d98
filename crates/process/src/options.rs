//! The settings and commands that every service has.

use std::{ffi::OsString, time::Duration};

use clap::{Args, FromArgMatches as _, Subcommand, value_parser};
use messaging::Backlog;
use secrecy::SecretString;
use thiserror::Error;

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

    /// Connections to the database, for each purpose its own
    #[command(flatten)]
    pub connections: Connections,

    /// When no more changes are taken
    #[command(flatten)]
    pub backlog: BacklogOptions,

    /// Where to listen, and the limits of requests
    #[command(flatten)]
    pub http: web::HttpOptions,

    /// Logs, traces, metrics
    #[command(flatten)]
    pub telemetry: telemetry::Options,
}

/// How many connections to the database a process may have for each purpose. They are separate, so that a rush in one place starves no other:
/// events leave and come in while more requests come than can be answered. What a service does beside that has one or two of its own.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connections to the database")]
pub struct Connections {
    /// For requests
    #[arg(long = "http-connections", env = "DATABASE_HTTP_CONNECTIONS", value_name = "COUNT", default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    pub http: u16,

    /// For sending events
    #[arg(long = "relay-connections", env = "DATABASE_RELAY_CONNECTIONS", value_name = "COUNT", default_value_t = 6, value_parser = value_parser!(u16).range(2..))]
    pub relay: u16,

    /// For handling events
    #[arg(long = "consumer-connections", env = "DATABASE_CONSUMER_CONNECTIONS", value_name = "COUNT", default_value_t = 6, value_parser = value_parser!(u16).range(2..))]
    pub consumer: u16,

    /// For each kind of work outside of the database, such as sending mails
    #[arg(long = "worker-connections", env = "DATABASE_WORKER_CONNECTIONS", value_name = "COUNT", default_value_t = 6, value_parser = value_parser!(u16).range(2..))]
    pub worker: u16,
}

/// When changes are refused because the events of earlier ones do not leave. Both limits have to be passed: a single event that nobody hears
/// may be old and is no reason to take no more orders, and a thousand that leave within a second are none either.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Backlog of events")]
pub struct BacklogOptions {
    /// Age of the oldest event that has not left, from which on changes are refused with 503
    #[arg(long, env = "OUTBOX_MAX_AGE_SECONDS", value_name = "SECONDS", default_value_t = 600, value_parser = value_parser!(u32).range(1..))]
    pub outbox_max_age_seconds: u32,

    /// Events that have not left, from which on their age counts
    #[arg(long, env = "OUTBOX_MAX_PENDING", value_name = "COUNT", default_value_t = Backlog::COUNTED, value_parser = value_parser!(u32).range(1..=i64::from(Backlog::COUNTED)))]
    pub outbox_max_pending: u32,
}

impl BacklogOptions {
    /// Whether this is too much.
    pub(crate) fn is_exceeded_by(&self, backlog: Backlog) -> bool {
        let max_age = Duration::from_secs(self.outbox_max_age_seconds.into());
        backlog.oldest >= max_age && backlog.pending >= self.outbox_max_pending
    }
}

/// Settings that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// Requests would wait for a connection behind the limit, where nobody refuses them.
    #[error(
        "HTTP_ROUTE_PLACES is {places}, but requests have {connections} connections to the database: raise DATABASE_HTTP_CONNECTIONS, or lower the limit"
    )]
    MorePlacesThanConnections {
        /// Requests of one route that would be worked on at once.
        places: u16,
        /// Connections that there are for all of them.
        connections: u16,
    },
}

impl Options {
    /// How many requests of one route may be worked on at once: as was set, or three quarters of the connections that there are for requests.
    pub(crate) fn route_places(&self) -> Result<u16, Contradiction> {
        let connections = self.connections.http;
        match self.http.route_places {
            None => Ok((connections - connections / 4).max(1)),
            Some(places) if places > connections => {
                Err(Contradiction::MorePlacesThanConnections { places, connections })
            }
            Some(places) => Ok(places),
        }
    }
}

/// For services that are asked by people: whose signatures they believe.
#[derive(Clone, Debug, Args)]
pub struct JwksOption {
    /// Where the keys are that sign access tokens
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8081/.well-known/jwks.json"
    )]
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

    fn options(more: &[&str]) -> Options {
        match parse(&[&NEEDED, more].concat()) {
            Ok(Command::Serve(config)) => config.process,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rush_for_one_route_leaves_connections_to_the_others() {
        assert_eq!(options(&[]).route_places(), Ok(6));
        assert_eq!(options(&["--http-connections=1"]).route_places(), Ok(1));
        assert_eq!(options(&["--route-places=0"]).route_places(), Ok(0));
        let contradiction = Contradiction::MorePlacesThanConnections { places: 9, connections: 8 };
        assert_eq!(options(&["--route-places=9"]).route_places(), Err(contradiction));
    }

    #[test]
    fn a_backlog_is_too_large_when_it_is_old_and_many() {
        let options = options(&["--outbox-max-age-seconds=60", "--outbox-max-pending=100"]).backlog;
        let exceeded =
            |seconds, pending| options.is_exceeded_by(Backlog { oldest: Duration::from_secs(seconds), pending });
        assert!(!exceeded(59, 10_000), "they leave");
        assert!(!exceeded(3600, 99), "a few that are held");
        assert!(exceeded(60, 100));
        for wrong in ["--outbox-max-age-seconds=0", "--outbox-max-pending=10001", "--relay-connections=0"] {
            assert!(parse(&[&NEEDED[..], &[wrong]].concat()).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn secrets_are_not_in_what_is_logged_of_the_settings() {
        let config = parse(&NEEDED).unwrap();
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }
}
