//! The process: settings, telemetry, build, run, drain.

use users::{App, Config};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let build = async |config| Ok(App::build(config).await?.into_process());
    let topology = async || Ok(users::topology());
    process::main(users::NAME, env!("CARGO_PKG_VERSION"), topology, build, |config: &Config| &config.process).await
}
