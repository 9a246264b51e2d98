//! What the parts of this crate say of themselves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The name of a part, and what is wrong with it, if anything.
pub type Check = (String, Result<String, String>);

/// Where the running parts write how they are. One per process is enough; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<BTreeMap<String, Result<String, String>>>>);

impl Health {
    pub(crate) fn set(&self, part: &str, state: Result<String, String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part.to_owned(), state);
    }

    pub(crate) fn checks(&self) -> Vec<Check> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(part, state)| (part.clone(), state.clone())).collect()
    }
}
