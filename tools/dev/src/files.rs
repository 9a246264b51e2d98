//! Small things about files and secrets: written at once or not at all, readable by their owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};

use crate::workspace::Account;

/// Replaces `path` with a file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: &[u8], owner: Option<&Account>) -> Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&new, Some(owner.uid), Some(owner.gid))?;
        }
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// 120 bits from the system's generator, as text that needs quoting nowhere: not in a URL, not in SQL, not in a shell.
pub(crate) fn secret() -> Result<String> {
    let mut bytes = [0_u8; 15];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The last `lines` lines of a log, indented, for an explanation of a failure.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    const ENOUGH_BYTES: u64 = 64 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = match read() {
        Ok(text) => text,
        Err(error) => return format!("    (cannot read {}: {error})", path.display()),
    };
    let all: Vec<&str> = text.lines().collect();
    let last = all.iter().skip(all.len().saturating_sub(lines)).map(|line| format!("    | {line}"));
    last.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_private_file_is_replaced_whole_and_only_its_owner_can_read_it() {
        let path = std::env::temp_dir().join(format!("dev-files-test-{}", std::process::id()));
        write_private(&path, b"one", None).unwrap();
        write_private(&path, b"two\nthree\nfour", None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(tail(&path, 2), "    | three\n    | four");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn secrets_differ_and_need_no_quoting() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 30);
        assert!(one.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
