//! `cargo dev prepare`: renews what is generated and checked in: the dashboards, the broker definitions, and, for SQL, `.sqlx/` of every
//! package with migrations. The macros describe their queries against a real database and write what they learn, when they are compiled
//! against one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};

use crate::{
    binaries::{self, Profile},
    check::definitions,
    console::{self, Step},
    dashboards,
    engines::{self, Given, Postgres},
    programs, stack,
    state::State,
    workspace,
};

/// The first of the libraries whose tables live beside those of the services, in schemas of their own.
const MESSAGING: &str = "messaging";
/// Its own, so that it never meets what runs.
pub(crate) const STACK: &str = "prepare";

/// Descriptions of queries: file name and content.
pub(crate) type Queries = BTreeMap<String, String>;

/// A package that has migrations.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Other packages of ours have its tables in their databases.
    pub(crate) is_library: bool,
}

/// `quick`: only what needs neither engines nor a build.
pub(crate) async fn run(given: Given, quick: bool) -> Result<bool> {
    let root = workspace::root()?;
    dashboards::write(&root)?;
    console::row("dashboards", "deploy/grafana/dashboards written");
    if quick {
        return Ok(true);
    }
    let _lock = stack::lock(STACK)?;
    let mut state = State::load_or_create(STACK)?;
    let done = renew(&root, &mut state, &given).await;
    engines::stop(&mut state, false).await?;
    done.map(|()| true)
}

async fn renew(root: &Path, state: &mut State, given: &Given) -> Result<()> {
    let postgres = engines::start_postgres_only(state, given).await?;
    let mut libraries = Queries::new();
    for package in packages(root)? {
        let mut step = Step::start(&package.name, "describing its queries");
        let queries = describe(&postgres, root, &package, &libraries, &mut step).await?;
        replace(&package.folder.join(".sqlx"), &queries)?;
        step.done(format_args!("{} queries in .sqlx", queries.len()));
        if package.is_library {
            libraries.extend(queries);
        }
    }
    let binaries = binaries::build(Profile::Dev).await?;
    definitions::write(root, &binaries).await?;
    console::row("definitions", format_args!("{} written", definitions::FILE));
    Ok(())
}

/// Every package with migrations: libraries first, and messaging first of all.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut found = Vec::new();
    for group in ["crates", "services"] {
        for entry in fs::read_dir(root.join(group)).with_context(|| format!("cannot read {group}"))? {
            let folder = entry?.path();
            if folder.join("migrations").is_dir() {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push(Package { name, folder, is_library: group == "crates" });
            }
        }
    }
    found.sort_by_key(|package| (!package.is_library, package.name != MESSAGING, package.name.clone()));
    Ok(found)
}

/// Compiles a package against a database with its tables, and answers with the descriptions of its queries.
///
/// `libraries` are the queries of those: when one has to be compiled again on the way, its macros write theirs too.
pub(crate) async fn describe(
    postgres: &Postgres,
    root: &Path,
    package: &Package,
    libraries: &Queries,
    step: &mut Step,
) -> Result<Queries> {
    let database = format!("prepare_{}", package.name.replace('-', "_"));
    postgres.recreate_database(&database).await?;
    for library in packages(root)?.into_iter().filter(|other| other.is_library && other.name != package.name) {
        migrate(postgres, &database, &library.folder).await?;
    }
    migrate(postgres, &database, &package.folder).await?;
    let folder = root.join(".dev").join(STACK).join("sqlx").join(&package.name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    touch_sources(&package.folder)?;
    let admin = &postgres.admin;
    let mut command = binaries::cargo()?;
    command
        .args(["check", "--all-targets", "--package", &package.name])
        .env("DATABASE_URL", admin.for_user(&admin.user, &admin.password, &database).with_password())
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", &folder);
    let compiled = programs::watch(&mut command, step).await?;
    postgres.drop_database(&database).await?;
    ensure!(compiled.success, "{} does not compile against its own tables:\n{}", package.name, compiled.printed);
    let mut queries = read(&folder)?;
    queries.retain(|name, _| !libraries.contains_key(name));
    Ok(queries)
}

/// Applies a package's migrations in the order of their names.
async fn migrate(postgres: &Postgres, database: &str, package: &Path) -> Result<()> {
    for schema in schemas(package)? {
        postgres.run(database, &format!("create schema if not exists \"{schema}\";")).await?;
    }
    let mut files = Vec::new();
    let folder = package.join("migrations");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    for file in files {
        let script = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        postgres.run(database, &script).await.with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// `migrate.create-schemas` of a package's sqlx.toml, which the migrations expect to be there.
fn schemas(package: &Path) -> Result<Vec<String>> {
    let path = package.join("sqlx.toml");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let settings = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = settings.lines().find_map(|line| line.trim().strip_prefix("create-schemas"));
    let names = line.unwrap_or_default().split('"').skip(1).step_by(2);
    Ok(names.map(str::to_owned).collect())
}

/// Makes cargo compile every target of a package again: the macros ask the database only when they are run.
fn touch_sources(package: &Path) -> Result<()> {
    let targets = ["src", "src/bin", "tests", "examples", "benches"].map(|folder| package.join(folder));
    for entry in targets.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten() {
        let path = entry?.path();
        for source in [path.clone(), path.join("main.rs")] {
            if source.extension().is_some_and(|extension| extension == "rs") && source.is_file() {
                let file = File::options().append(true).open(&source);
                let touched = file.and_then(|file| file.set_modified(SystemTime::now()));
                touched.with_context(|| format!("cannot touch {}", source.display()))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn read(folder: &Path) -> Result<Queries> {
    let mut queries = Queries::new();
    if !folder.exists() {
        return Ok(queries);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("query-") && name.ends_with(".json") {
            let content = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            queries.insert(name, content);
        }
    }
    Ok(queries)
}

/// Makes the folder hold exactly these queries, without touching files that are right.
fn replace(folder: &Path, queries: &Queries) -> Result<()> {
    let old = read(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in old.keys().filter(|name| !queries.contains_key(*name)) {
        fs::remove_file(folder.join(name)).with_context(|| format!("cannot remove {name}"))?;
    }
    for (name, content) in queries {
        if old.get(name) != Some(content) {
            fs::write(folder.join(name), content).with_context(|| format!("cannot write {name}"))?;
        }
    }
    Ok(())
}
