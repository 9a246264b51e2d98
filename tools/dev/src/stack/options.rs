//! What a stack is to be.

use std::path::{Path, PathBuf};

use super::{Given, Monitoring};
use crate::{binaries::Profile, services::Setting};

/// What to start.
pub struct Options {
    /// Names the stack, its folder under `.dev/` and its ports.
    pub name: String,
    /// Processes of each service.
    pub replicas: u16,
    /// Engines to use instead of starting some.
    pub engines: Given,
    /// Whether Prometheus watches it, where there is one to be had.
    pub monitoring: Option<Monitoring>,
    /// What services get instead of their usual settings.
    pub(super) settings: Vec<Setting>,
    /// How the services are built.
    pub(crate) profile: Profile,
    /// A queue of this name hears every event, from the first one on.
    pub(crate) tap: Option<&'static str>,
    /// Whether things are to be done to it: then the services reach the engines through proxies, and the mailbox does as it is told.
    pub(crate) proved: bool,
    /// The program of `cargo dev`, which runs itself again for the page of the stack, the mailbox and the traces.
    pub program: PathBuf,
}

impl Options {
    /// One process of each service, on engines of its own.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let program = this_program();
        Self {
            name: name.to_owned(),
            replicas: 1,
            engines: Given::default(),
            monitoring: None,
            settings: Vec::new(),
            profile: Profile::Dev,
            tap: None,
            proved: false,
            program,
        }
    }

    /// With programs that share all that they are made of with the tests, and that can be made to fail.
    #[must_use]
    pub const fn tested(mut self) -> Self {
        self.profile = Profile::Tested;
        self
    }

    /// Gives one service another value of a setting, named as in its environment.
    #[must_use]
    pub fn setting(mut self, service: &str, name: &str, value: impl ToString) -> Self {
        self.set(service, name, &value.to_string());
        self
    }

    pub(super) fn set(&mut self, service: &str, name: &str, value: &str) {
        self.settings.retain(|known| known.service != service || known.name != name);
        self.settings.push(Setting { service: service.to_owned(), name: name.to_owned(), value: value.to_owned() });
    }
}

/// The program of `cargo dev`, to be run again.
pub(crate) fn this_program() -> PathBuf {
    std::env::current_exe().map_or_else(|_| PathBuf::from("dev"), |path| as_built_anew(&path))
}

/// Where a program is. A build that replaced it while it runs makes Linux say that it was deleted; the new one is as good.
fn as_built_anew(path: &Path) -> PathBuf {
    path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or_else(|| path.to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_built_anew_is_where_it_was() {
        assert_eq!(as_built_anew(Path::new("/target/debug/dev (deleted)")), Path::new("/target/debug/dev"));
        assert_eq!(as_built_anew(Path::new("/target/debug/dev")), Path::new("/target/debug/dev"));
    }
}
