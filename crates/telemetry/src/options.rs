//! The settings that every service has for its telemetry. It reads no environment itself: clap does.

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Crates that say too much at `info`, or that report what is reported here in another way. Directives of `RUST_LOG` come later, so they win.
///
/// `lapin` logs every returned message with its content, which may be personal; the relay says what was returned. Its `io_loop` and `channels`
/// report as errors what ends a connection, each time; whoever keeps the connection says why there is none.
/// `actix_http` logs every malformed request of any client as an error. The OpenTelemetry crates log each failed export;
/// [`crate::traces`] says once when a collector goes away, and once when it is back.
const QUIET: &str = "info,actix_http=off,actix_server=warn,h2=warn,hyper=warn,hyper_util=warn,lapin=warn,\
                     lapin::channels=off,lapin::io_loop=off,lapin::returned_messages=off,opentelemetry=off,opentelemetry-otlp=off,opentelemetry_otlp=off,opentelemetry_sdk=off,\
                     reqwest=warn,rustls=warn,sqlx=warn,tonic=warn,tower=warn";

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Human,
    /// One JSON object per line, for collectors.
    Json,
}

/// Command line and environment of a service's telemetry; flatten it into the service's own options.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Telemetry")]
pub struct Options {
    /// Where traces are sent, over OTLP/gRPC, for example http://127.0.0.1:4317. Without it, traces exist (ids in logs and answers) but go nowhere
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<String>,

    /// Share of new traces that are recorded, 0 to 1. A trace that comes in from a caller keeps the caller's decision
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value_t = 1.0, value_parser = ratio)]
    pub traces_sampler_ratio: f64,

    /// Whether SQL statements are spans of recorded traces: their text, never their values. They are most of a trace's spans, so
    /// whoever pays for keeping them decides
    #[arg(long, env = "TRACES_SQL", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    pub traces_sql: bool,

    /// How logs look
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// What is logged: directives such as `info`, `debug` or `info,messaging=debug`
    #[arg(long, env = "RUST_LOG", value_name = "DIRECTIVES", default_value = "")]
    pub rust_log: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            otel_exporter_otlp_endpoint: None,
            traces_sampler_ratio: 1.0,
            traces_sql: false,
            log_format: LogFormat::Human,
            rust_log: String::new(),
        }
    }
}

impl Options {
    /// The collector's address; an empty variable counts as none.
    pub(crate) fn collector(&self) -> Option<&str> {
        self.otel_exporter_otlp_endpoint.as_deref().filter(|url| !url.is_empty())
    }

    pub(crate) fn log_filter(&self) -> Result<EnvFilter, ParseError> {
        EnvFilter::builder().parse(format!("{QUIET},{}", self.rust_log))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        let command = Options::augment_args(clap::Command::new("test").no_binary_name(true));
        Options::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn a_ratio_outside_zero_to_one_is_refused() {
        assert_eq!(parse(&["--traces-sampler-ratio", "0.25"]).unwrap().traces_sampler_ratio, 0.25);
        for ratio in ["-0.1", "1.01", "NaN", "all"] {
            let argument = format!("--traces-sampler-ratio={ratio}");
            assert!(parse(&[&argument]).is_err(), "{ratio} was accepted");
        }
    }

    #[test]
    fn directives_of_the_user_win_over_the_quiet_defaults() {
        let filter = |rust_log: &str| {
            let options = Options { rust_log: rust_log.to_owned(), ..Options::default() };
            options.log_filter().map(|filter| filter.to_string())
        };
        let default = filter("").unwrap();
        assert!(default.contains("lapin=warn") && default.contains("info"), "{default}");
        let chosen = filter("debug,lapin=trace").unwrap();
        assert!(chosen.contains("lapin=trace") && !chosen.contains("lapin=warn"), "{chosen}");
        assert!(chosen.contains("h2=warn") && chosen.contains("debug"), "{chosen}");
        assert!(filter("users=loud").is_err());
    }

    #[test]
    fn an_empty_address_means_no_collector() {
        let options = parse(&["--otel-exporter-otlp-endpoint="]).unwrap();
        assert_eq!(options.collector(), None);
    }
}
