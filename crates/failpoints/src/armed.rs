//! The build that can fail.

use std::{
    collections::BTreeMap,
    fs,
    io::{Error, Result},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

/// What happens at a point.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Abort,
    Error,
    Panic,
    Hang(Duration),
}

#[expect(clippy::disallowed_methods, reason = "a switch of the proof's build, not configuration")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

pub(crate) fn without(guarantee: &str) -> bool {
    static WITHOUT: LazyLock<Vec<String>> = LazyLock::new(|| {
        let all = variable("WITHOUT").unwrap_or_default();
        all.split(',').map(str::to_owned).collect()
    });
    WITHOUT.iter().any(|gone| gone == guarantee)
}

pub(crate) async fn hit(point: &'static str) -> Result<()> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| variable("FAILPOINTS").map(PathBuf::from));
    let Some(failure) = FOLDER.as_deref().and_then(|folder| taken(folder, point)) else { return Ok(()) };
    match failure {
        Failure::Abort => std::process::abort(),
        Failure::Error => Err(Error::other(format!("the failpoint {point} was hit"))),
        #[expect(clippy::panic, reason = "it was asked for")]
        Failure::Panic => panic!("the failpoint {point} was hit"),
        Failure::Hang(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
    }
}

/// The failure that waits for this hit of the point, if this process is the one that gets it.
fn taken(folder: &Path, point: &'static str) -> Option<Failure> {
    let path = folder.join(point);
    let (failure, at_hit) = read(&fs::read_to_string(&path).ok()?)?;
    if count(point) < at_hit {
        return None;
    }
    // Of several processes, one can rename it.
    fs::rename(&path, folder.join(format!("{point}.{}.hit", std::process::id()))).ok()?;
    forget(point);
    Some(failure)
}

static HITS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Hits while something waits for one, this one included.
fn count(point: &'static str) -> u64 {
    let mut hits = HITS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = hits.entry(point).or_default();
    *count += 1;
    *count
}

fn forget(point: &'static str) {
    HITS.lock().unwrap_or_else(PoisonError::into_inner).remove(point);
}

fn read(text: &str) -> Option<(Failure, u64)> {
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    let at_hit = words.next()?.parse().ok()?;
    let failure = match kind {
        "abort" => Failure::Abort,
        "error" => Failure::Error,
        "panic" => Failure::Panic,
        "hang" => Failure::Hang(Duration::from_secs(words.next()?.parse().ok()?)),
        _ => return None,
    };
    Some((failure, at_hit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_happens_and_at_which_hit() {
        assert_eq!(read("abort 1\n"), Some((Failure::Abort, 1)));
        assert_eq!(read("hang 2 20"), Some((Failure::Hang(Duration::from_secs(20)), 2)));
        assert_eq!(read("explode 1"), None);
    }

    #[test]
    fn one_process_takes_it_at_the_hit_that_was_named_and_leaves_evidence() {
        let folder = std::env::temp_dir().join(format!("failpoints-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("test.point"), "error 2").unwrap();
        assert_eq!(taken(&folder, "test.point"), None);
        assert_eq!(taken(&folder, "test.point"), Some(Failure::Error));
        assert_eq!(taken(&folder, "test.point"), None);
        assert!(folder.join(format!("test.point.{}.hit", std::process::id())).exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
