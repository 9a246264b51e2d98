//! The process: settings, telemetry, run until told to stop, flush.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::main(
        access_log::NAME,
        env!("CARGO_PKG_VERSION"),
        access_log::topology,
        access_log::build,
        |config: &access_log::Config| &config.process,
    )
    .await
}
