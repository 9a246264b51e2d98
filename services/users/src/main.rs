//! The life of the service: settings, telemetry, build, run, drain.

use users::{App, config::Command};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = match Command::from_args() {
        Command::Serve(config) => config,
        Command::Topology => return Ok(serde_json::to_writer_pretty(std::io::stdout(), &users::topology())?),
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let telemetry = telemetry::init(users::NAME, env!("CARGO_PKG_VERSION"), &config.telemetry)?;
    let stop = web::stop_signal();
    let served = match stop.run_until_cancelled(App::build(*config)).await {
        Some(built) => async { built?.run(stop).await }.await,
        None => Ok(()),
    };
    telemetry.shutdown().await;
    served
}
