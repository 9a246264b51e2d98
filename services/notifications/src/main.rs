//! The process: settings, telemetry, run until told to stop, flush.
#![expect(clippy::print_stdout, reason = "`topology` is a command, and this is its output")]

use notifications::{App, Command};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = match Command::from_args() {
        Command::Serve(config) => config,
        Command::Topology => {
            println!("{}", serde_json::to_string_pretty(&notifications::topology()?)?);
            return Ok(());
        }
    };
    let telemetry = telemetry::init("notifications", env!("CARGO_PKG_VERSION"), &config.telemetry)?;
    let result = async { App::build(*config)?.run(web::stop_signal()).await }.await;
    telemetry.shutdown().await;
    result
}
