//! The process.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::main(
        payments::NAME,
        env!("CARGO_PKG_VERSION"),
        payments::topology,
        payments::build,
        |config: &payments::Config| &config.process,
    )
    .await
}
