//! The settings that every HTTP server has, with the limits that keep one client from hurting the others.

use std::{net::SocketAddr, time::Duration};

/// Command line and environment of a service's HTTP server; flatten it into the service's own options.
///
/// There is no default for `listen`: each service gives its own, on the struct that flattens this one, with
/// `#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8081").required(false)))]`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpOptions {
    /// Address and port to listen on
    #[arg(long, env = "LISTEN", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Largest request body; a larger one is answered with 413
    #[arg(long, env = "HTTP_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = defaults::MAX_BODY_BYTES)]
    pub max_body_bytes: usize,

    /// Largest request head, that is path, query and headers; a larger one is answered with 431
    #[arg(long, env = "HTTP_MAX_HEAD_BYTES", value_name = "BYTES", default_value_t = defaults::MAX_HEAD_BYTES)]
    pub max_head_bytes: usize,

    /// Time for a request head to arrive, on every request of a connection; then 408
    #[arg(long = "head-timeout-seconds", env = "HTTP_HEAD_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub head_timeout: Duration,

    /// Time for a request body to arrive; then 408
    #[arg(long = "body-timeout-seconds", env = "HTTP_BODY_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub body_timeout: Duration,

    /// Slowest body that is waited for, after the first five seconds; then 408
    #[arg(long, env = "HTTP_MIN_BODY_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = defaults::MIN_BODY_BYTES_PER_SECOND)]
    pub min_body_bytes_per_second: u32,

    /// Time an idle connection is kept for the next request
    #[arg(long = "keep-alive-seconds", env = "HTTP_KEEP_ALIVE_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub keep_alive: Duration,

    /// Time that a client may take nothing of what is sent to it; then the connection is closed
    #[arg(long = "unread-timeout-seconds", env = "HTTP_UNREAD_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub unread_timeout: Duration,

    /// Open connections, at most (each takes two file descriptors); further ones wait to be accepted
    #[arg(long, env = "HTTP_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = defaults::MAX_CONNECTIONS)]
    pub max_connections: usize,

    /// Requests of one route that are worked on at once. 0: no limit. Not given: three quarters of the connections that the routes have to the
    /// database, so that a rush for one route leaves some to the others
    #[arg(long, env = "HTTP_ROUTE_PLACES", value_name = "COUNT")]
    pub route_places: Option<u16>,

    /// Requests of one route that wait for a place, at most; further ones are answered with 503 at once
    #[arg(long, env = "HTTP_ROUTE_WAITING", value_name = "COUNT", default_value_t = defaults::ROUTE_WAITING)]
    pub route_waiting: u16,

    /// Time that a request waits for a place; then 503. Much less than people wait for an answer: the work itself takes time, too
    #[arg(long = "route-wait-seconds", env = "HTTP_ROUTE_WAIT_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "0.25")]
    pub route_wait: Duration,

    /// Time that a request may be worked on; then 503. The answer may still be long, as a stream is
    #[arg(long = "request-timeout-seconds", env = "HTTP_REQUEST_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub request_timeout: Duration,

    /// Time for requests in flight to finish when the server stops
    #[arg(long = "drain-timeout-seconds", env = "HTTP_DRAIN_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub drain_timeout: Duration,

    /// Proxies in front whose `X-Forwarded-For` is believed; 0: the address of the connection counts
    #[arg(long, env = "HTTP_TRUSTED_PROXIES", value_name = "COUNT", default_value_t = 0)]
    pub trusted_proxies: usize,
}

mod defaults {
    pub(super) const MAX_BODY_BYTES: usize = 256 * 1_024;
    pub(super) const MAX_HEAD_BYTES: usize = 16 * 1_024;
    pub(super) const MIN_BODY_BYTES_PER_SECOND: u32 = 512;
    pub(super) const MAX_CONNECTIONS: usize = 10_000;
    pub(super) const ROUTE_WAITING: u16 = 24;
}

impl HttpOptions {
    /// The defaults, listening on `listen` (port 0: any free port).
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            max_body_bytes: defaults::MAX_BODY_BYTES,
            max_head_bytes: defaults::MAX_HEAD_BYTES,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            min_body_bytes_per_second: defaults::MIN_BODY_BYTES_PER_SECOND,
            keep_alive: Duration::from_secs(30),
            unread_timeout: Duration::from_secs(30),
            max_connections: defaults::MAX_CONNECTIONS,
            route_places: None,
            route_waiting: defaults::ROUTE_WAITING,
            route_wait: Duration::from_millis(250),
            request_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            trusted_proxies: 0,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "must be a number of seconds above 0, for example 5 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8081").required(false)))]
    struct Service {
        #[command(flatten)]
        http: HttpOptions,
    }

    #[test]
    fn a_service_gives_its_own_port_and_the_rest_has_the_documented_defaults() {
        let parsed = Service::try_parse_from(["service"]).unwrap().http;
        let expected = HttpOptions::new(([127, 0, 0, 1], 8_081).into());
        assert_eq!(format!("{parsed:?}"), format!("{expected:?}"));
    }

    #[test]
    fn timeouts_are_given_in_seconds_and_cannot_be_switched_off_by_zero() {
        let parsed = Service::try_parse_from(["service", "--head-timeout-seconds", "0.5"]).unwrap();
        assert_eq!(parsed.http.head_timeout, Duration::from_millis(500));
        for setting in ["head-timeout-seconds", "route-wait-seconds"] {
            for wrong in ["0", "-1", "inf", "soon"] {
                let argument = format!("--{setting}={wrong}");
                assert!(Service::try_parse_from(["service", &argument]).is_err(), "{wrong} was accepted");
            }
        }
    }
}
