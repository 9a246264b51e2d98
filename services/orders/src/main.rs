//! The process: settings, telemetry, run until told to stop, flush.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    process::main(orders::NAME, version, orders::topology, orders::build, |config: &orders::Config| &config.process)
        .await
}
