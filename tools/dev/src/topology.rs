//! The broker's topology: asks each service for its part, has the parts merged, and imports the result before any service starts.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{binaries::Binaries, console::Step, engines::Engines, programs, services::SERVICES, state::State};

/// The definitions of a virtual host for all services, each with the password that `password` gives it.
pub(crate) async fn definitions(
    binaries: &Binaries,
    vhost: &str,
    mut password: impl FnMut(&str) -> Result<String>,
) -> Result<Value> {
    let mut users = Vec::new();
    for service in SERVICES {
        let printed = programs::output(Command::new(binaries.path(service.name)?).arg("topology")).await?;
        let part: Value = serde_json::from_str(&printed)
            .with_context(|| format!("`{} topology` does not print JSON", service.name))?;
        users.push(json!({ "service": part, "password": password(service.name)? }));
    }
    let input = json!({ "vhost": vhost, "users": users });
    let merged = programs::output_of_input(&mut Command::new(binaries.path("topology")?), &input.to_string()).await?;
    serde_json::from_str(&merged).context("`topology` does not print JSON")
}

/// Brings the broker of a stack up to date.
pub(crate) async fn import(state: &mut State, engines: &Engines, binaries: &Binaries) -> Result<()> {
    let step = Step::start("topology", "asking the services");
    let definitions =
        definitions(binaries, &engines.rabbitmq.vhost, |service| Ok(state.credentials(service)?.broker_password))
            .await?;
    engines.rabbitmq.import(&definitions).await?;
    let count = |kind: &str| definitions[kind].as_array().map_or(0, Vec::len);
    step.done(format_args!(
        "{} queues, {} bindings, {} users imported",
        count("queues"),
        count("bindings"),
        count("users")
    ));
    Ok(())
}
