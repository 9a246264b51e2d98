//! The process: settings, telemetry, run until told to stop, flush.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::main(
        inventory::NAME,
        env!("CARGO_PKG_VERSION"),
        inventory::topology,
        inventory::build,
        |config: &inventory::Config| &config.process,
    )
    .await
}
