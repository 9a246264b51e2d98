//! The broker definitions that docker-compose.yml imports, generated from the services' handlers.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Verdict;
use crate::{binaries::Binaries, topology};

pub(crate) const FILE: &str = "deploy/rabbitmq/definitions.json";
const VHOST: &str = "postrider";

/// In containers on a developer's machine, each service's password is its name with this behind it. Everywhere else definitions are
/// generated with passwords of their own.
pub(crate) const DEVELOPMENT_ONLY: &str = "-development-only";

async fn generate(binaries: &Binaries) -> Result<String> {
    let definitions =
        topology::definitions(binaries, VHOST, |service| Ok(format!("{service}{DEVELOPMENT_ONLY}"))).await?;
    Ok(format!("{definitions:#}\n"))
}

/// Writes the file anew.
pub(crate) async fn write(root: &Path, binaries: &Binaries) -> Result<()> {
    let path = root.join(FILE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, generate(binaries).await?).with_context(|| format!("cannot write {}", path.display()))
}

pub(super) async fn check(root: &Path, binaries: &Binaries) -> Result<Verdict> {
    let found = fs::read_to_string(root.join(FILE)).unwrap_or_default();
    Ok(if found == generate(binaries).await? {
        Verdict::Passed(format!("{FILE} is what the services' handlers want"))
    } else {
        Verdict::Failed(format!("{FILE} is not what the services' handlers want; `cargo dev prepare` renews it"))
    })
}
