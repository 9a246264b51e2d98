//! Where things are: the checkout, the folder of a stack, and the unprivileged account and folder that the engines get when
//! this runs as root.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::console;

/// The system user that owns and runs the private engines when `cargo dev` is run by root: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postrider-dev";

/// Bytes that a build of everything and its tests may take; as README says.
const ROOM_TO_BUILD: u64 = 12_000_000_000;
/// Bytes that engines, logs and what is built anew may take.
const ROOM_TO_RUN: u64 = 3_000_000_000;

/// The checkout that the current folder is in.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder is gone")?;
    here.ancestors()
        .find(|folder| folder.join("tools/dev/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is not inside a checkout of this project", here.display()))
}

/// The folder of everything that belongs to one stack; not in the repository.
pub(crate) fn stack_folder(root: &Path, name: &str) -> PathBuf {
    root.join(".dev").join(name)
}

/// Says so when the disk of the checkout has less room than what follows may take: a full disk shows itself in the strangest ways.
pub(crate) fn say_if_room_is_scarce() -> Result<()> {
    let root = root()?;
    let disk = rustix::fs::statvfs(&root).with_context(|| format!("cannot look at the disk of {}", root.display()))?;
    let left = disk.f_bavail * disk.f_frsize;
    // The folder itself is there: this program is in it.
    let wanted = if root.join("target/debug/orders").exists() { ROOM_TO_RUN } else { ROOM_TO_BUILD };
    if left < wanted {
        let [left, wanted] = [left, wanted].map(|bytes| bytes as f64 / 1e9);
        let text =
            format!("{left:.1} GB left, and up to {wanted:.0} GB may be needed; `cargo clean` frees what was built");
        console::row("DISK", text);
    }
    Ok(())
}

/// A user other than root.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The account for the engines: `None` when this is not run by root, so that they simply run as the caller.
pub(crate) fn engine_account() -> Result<Option<Account>> {
    if !is_root() {
        return Ok(None);
    }
    if let Some(account) = lookup(ACCOUNT)? {
        return Ok(Some(account));
    }
    let made = Command::new("useradd")
        .args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            ACCOUNT,
        ])
        .output()
        .context("cannot run useradd, which makes the unprivileged user that the engines need")?;
    ensure!(made.status.success(), "useradd {ACCOUNT}: {}", String::from_utf8_lossy(&made.stderr).trim());
    Ok(Some(lookup(ACCOUNT)?.with_context(|| format!("useradd made no {ACCOUNT}"))?))
}

fn lookup(name: &str) -> Result<Option<Account>> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let Some(entry) =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| entry.first() == Some(&name))
    else {
        return Ok(None);
    };
    let id = |index: usize| {
        entry.get(index).and_then(|id| id.parse().ok()).with_context(|| format!("/etc/passwd: {name} is malformed"))
    };
    Ok(Some(Account { uid: id(2)?, gid: id(3)? }))
}

/// Makes the folder in which an engine keeps its data, owned by `account` and closed to others. It is `folder` itself, or, where
/// the account cannot reach that (a checkout under a closed home directory), a folder under /var/tmp that `folder` links to.
pub(crate) fn engine_folder(folder: &Path, account: Option<&Account>) -> Result<PathBuf> {
    if let Ok(target) = fs::read_link(folder)
        && target.is_dir()
    {
        return Ok(target);
    }
    let Some(account) = account else {
        private_folder(folder)?;
        return Ok(folder.to_path_buf());
    };
    let parent = folder.parent().context("an engine's folder is inside a stack's")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    if reachable(parent, account) {
        private_folder(folder)?;
        if chown(folder, Some(account.uid), Some(account.gid)).is_ok() {
            return Ok(folder.to_path_buf());
        }
        fs::remove_dir(folder).with_context(|| format!("cannot give {} to {ACCOUNT}", folder.display()))?;
    }
    let elsewhere = folder_in_var_tmp(folder, account)?;
    // A link whose target was cleaned away is in the way.
    let _ = fs::remove_file(folder);
    symlink(&elsewhere, folder).with_context(|| format!("cannot link {}", folder.display()))?;
    Ok(elsewhere)
}

fn folder_in_var_tmp(folder: &Path, account: &Account) -> Result<PathBuf> {
    let base = PathBuf::from(format!(
        "/var/tmp/postrider-{}-{:016x}",
        account.uid,
        fingerprint(folder.as_os_str().as_encoded_bytes())
    ));
    private_folder(&base)?;
    let found = fs::symlink_metadata(&base)?;
    ensure!(
        found.is_dir() && (found.uid() == account.uid || found.uid() == 0),
        "{} belongs to somebody else; remove it, or move the checkout to where the user {ACCOUNT} can enter",
        base.display()
    );
    chown(&base, Some(account.uid), Some(account.gid))
        .with_context(|| format!("cannot give {} to {ACCOUNT}", base.display()))?;
    Ok(base)
}

/// Whether `account` may enter `folder` and all that is above it.
fn reachable(folder: &Path, account: &Account) -> bool {
    folder.ancestors().all(|step| {
        fs::metadata(step).is_ok_and(|found| {
            let mode = found.mode();
            (found.uid() == account.uid && mode & 0o100 != 0)
                || (found.gid() == account.gid && mode & 0o010 != 0)
                || mode & 0o001 != 0
        })
    })
}

fn private_folder(folder: &Path) -> Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            bail!("cannot make {}: {error}", folder.display())
        }
        _ => Ok(()),
    }
}

/// FNV-1a, 64 bits: the same on every machine and every release of the compiler. Not for secrets.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_the_published_one() {
        // Test vectors of draft-eastlake-fnv.
        assert_eq!(fingerprint(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
