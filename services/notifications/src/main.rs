//! The process: settings, telemetry, build, run, drain.

use notifications::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let build = async |config| notifications::build(config);
    process::main(notifications::NAME, env!("CARGO_PKG_VERSION"), notifications::topology, build, |config: &Config| {
        &config.process
    })
    .await
}
