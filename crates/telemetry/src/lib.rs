#![doc = include_str!("../README.md")]

mod logs;
mod options;
mod process;
mod prometheus;
mod sampling;
mod scrape;
mod sql;
#[cfg(feature = "testing")]
pub mod testing;
mod traces;

use std::{sync::OnceLock, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use options::{LogFormat, Options};
pub use prometheus::render_metrics;
pub use scrape::{AtScrape, at_scrape};
pub use sql::{Database, database};
pub use traces::{current_trace_id, traceparent};

/// How long [`Telemetry::shutdown`] waits for the last spans to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Why telemetry could not be set up. All of these are mistakes in the configuration or in the start-up order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// `RUST_LOG` cannot be parsed.
    #[error("the log filter is not valid, use directives such as `info` or `info,users=debug`: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` cannot be used.
    #[error("the address of the trace collector is not valid, use one such as `http://127.0.0.1:4317`: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A subscriber or a recorder was installed before.
    #[error("telemetry is already set up in this process: {0}")]
    AlreadySet(String),
}

/// The running telemetry of a process. Keep it until the end and call [`Telemetry::shutdown`]:
/// spans of the last second are lost otherwise.
#[must_use = "spans are flushed by `shutdown`"]
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    upkeep: JoinSet<()>,
}

/// This process among those of its service: a UUID, the same in every trace (`service.instance.id`) and in every line of the access log.
pub fn instance_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| uuid::Uuid::new_v4().to_string())
}

/// Sets up traces, logs and metrics for the whole process. Call it once, inside a tokio runtime, before anything is logged.
///
/// `service` and `version` name the process in every trace (`service.name`, `service.version`) and in every JSON log line.
///
/// # Errors
/// When the options are not valid, or when something else was installed before. An unreachable collector is not an error.
pub fn init(service: &'static str, version: &'static str, options: &Options) -> Result<Telemetry, InitError> {
    let exporter = options.collector().map(traces::otlp).transpose()?;
    let provider =
        traces::provider(traces::resource(service, version), options.traces_sampler_ratio, exporter.map(traces::batch));

    let filter = options.log_filter()?;
    let logged = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let subscriber = tracing_subscriber::registry()
        .with(logs::layer(service, options.log_format, std::io::stdout).with_filter(filter))
        .with(traces::layer(&provider))
        .with(options.traces_sql.then(|| sql::layer(&provider)));
    let already_set = |error: &dyn std::error::Error| InitError::AlreadySet(error.to_string());
    tracing::subscriber::set_global_default(subscriber).map_err(|error| already_set(&error))?;
    // Records of the `log` crate, up to what is logged: statements are reported at a lower level, which all of them would be checked against.
    LogTracer::builder().with_max_level(logged.as_log()).init().map_err(|error| already_set(&error))?;
    traces::install(&provider);
    std::panic::set_hook(Box::new(logs::panicked));

    prometheus::install().map_err(InitError::AlreadySet)?;
    let mut upkeep = JoinSet::new();
    upkeep.spawn(prometheus::upkeep());
    Ok(Telemetry { provider, upkeep })
}

impl Telemetry {
    /// Sends what is left and stops. Returns after a few seconds at the latest, also when the collector does not answer.
    pub async fn shutdown(mut self) {
        self.upkeep.abort_all();
        let provider = self.provider.clone();
        // The flush blocks a thread while the exporter works on this runtime: never on one of its own threads.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        match tokio::time::timeout(FLUSH_TIMEOUT * 2, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(_elapsed) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

/// Sets up the same for tests, once per process however often it is called: logs go to the captured output of the test
/// (`RUST_LOG`, by default warnings), every trace is sampled, nothing is exported.
pub fn init_for_tests() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        #[cfg(feature = "testing")]
        let processor = Some(testing::processor());
        #[cfg(not(feature = "testing"))]
        let processor = None::<opentelemetry_sdk::trace::BatchSpanProcessor>;

        let provider = traces::provider(traces::resource("test", "0"), 1.0, processor);
        let filter = tracing_subscriber::EnvFilter::builder()
            .with_default_directive(tracing::Level::WARN.into())
            .from_env_lossy();
        let writer = tracing_subscriber::fmt::TestWriter::default;
        // Whoever installed something first keeps it: a test binary may bring its own.
        let _installed = tracing_subscriber::registry()
            .with(logs::layer("test", LogFormat::Human, writer).with_filter(filter))
            .with(traces::layer(&provider))
            .try_init();
        traces::install(&provider);
        let _installed = prometheus::install();
    });
}
