//! What others rely on: the events in `proto/`, and docker-compose.yml.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use saphyr::{LoadableYamlNode, Yaml};
use tokio::process::Command;

use super::Verdict;
use crate::{console::Step, install, programs, services::SERVICES};

/// `@bufbuild/buf` of npm, which brings the program for this machine.
const BUF: &str = "@bufbuild/buf@1.75.0";
/// The events as they were released last, relative to `proto/`. `buf build --exclude-source-info -o baseline.binpb` renews it, at a release only.
const BASELINE: &str = "baseline.binpb";
/// What docker-compose.yml holds besides the services of the shop.
const TOOLS: [&str; 7] = ["postgres", "rabbitmq", "jaeger", "mailpit", "prometheus", "postgres-exporter", "grafana"];

/// Names, numbers and layout of the events.
pub(super) async fn lint(root: &Path, step: &mut Step) -> Result<Verdict> {
    let mut command = buf(root, step).await?;
    command.arg("lint");
    Ok(Verdict::of(programs::watch(&mut command, step).await?, "buf lint has nothing to say"))
}

/// Whether what is released can still be read.
pub(super) async fn breaking(root: &Path, step: &mut Step) -> Result<Verdict> {
    ensure!(
        root.join("proto").join(BASELINE).exists(),
        "proto/{BASELINE} is missing: `buf build --exclude-source-info -o {BASELINE}` in proto/ makes it"
    );
    let mut command = buf(root, step).await?;
    command.args(["breaking", "--against", BASELINE]);
    Ok(Verdict::of(programs::watch(&mut command, step).await?, "nothing that was released is broken"))
}

/// buf in `proto/`, installed if it is not there yet.
async fn buf(root: &Path, step: &mut Step) -> Result<Command> {
    let folder = root.join(".dev/tools/buf");
    let program: PathBuf = folder.join("node_modules/.bin/buf");
    let version = BUF.rsplit_once('@').map_or("", |(_, version)| version);
    let installed = programs::output(Command::new(&program).arg("--version")).await;
    if !installed.is_ok_and(|printed| printed.trim() == version) {
        step.note("installing buf, once");
        if !programs::is_there("npm", &["--version"]).await {
            let explanation = format!(
                "npm is needed to install {BUF}: install Node.js and npm (on Debian: sudo apt-get install npm)"
            );
            install::packages(&["npm"], &explanation).await?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"]).arg(&folder).arg(BUF);
        let done = programs::watch(&mut install, step).await?;
        ensure!(done.success, "{BUF} cannot be installed:\n{}", done.printed);
    }
    let mut command = Command::new(program);
    command.current_dir(root.join("proto"));
    Ok(command)
}

/// docker-compose.yml is YAML, holds every service, and is understood by compose where there is one to ask.
pub(super) async fn compose_file(root: &Path) -> Result<Verdict> {
    let path = root.join("docker-compose.yml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let missing = missing_services(&text)?;
    if !missing.is_empty() {
        return Ok(Verdict::Failed(format!("docker-compose.yml has no service {}", missing.join(", "))));
    }
    if !programs::is_there("docker", &["compose", "version"]).await {
        return Ok(Verdict::Passed("parses and holds every service; `docker compose` is not here to ask".to_owned()));
    }
    let mut config = Command::new("docker");
    config.args(["compose", "--file"]).arg(&path).args(["config", "--quiet"]);
    programs::output(&mut config).await?;
    Ok(Verdict::Passed("holds every service and is valid".to_owned()))
}

/// What every other part of the project expects docker-compose.yml to hold.
fn expected() -> impl Iterator<Item = &'static str> {
    TOOLS.into_iter().chain(SERVICES.iter().map(|service| service.name))
}

fn missing_services(text: &str) -> Result<Vec<&'static str>> {
    let documents = Yaml::load_from_str(text).context("docker-compose.yml is not YAML")?;
    let services = documents.first().and_then(|file| file.as_mapping_get("services"));
    let services = services.context("docker-compose.yml has no services")?;
    Ok(expected().filter(|name| services.as_mapping_get(name).is_none()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compose_file_without_a_service_is_told_apart_from_one_that_is_whole() {
        let whole: String = expected().map(|name| format!("  {name}:\n    image: x\n")).collect();
        assert_eq!(missing_services(&format!("services:\n{whole}")).unwrap(), Vec::<&str>::new());
        assert_eq!(missing_services(&format!("services:\n{}", whole.replace("jaeger", "zipkin"))).unwrap(), ["jaeger"]);
        missing_services("services: [").unwrap_err();
        missing_services("version: 3").unwrap_err();
    }
}
