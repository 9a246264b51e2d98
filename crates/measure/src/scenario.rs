//! What can be measured, by name.

use std::pin::Pin;

use crate::Measurement;

/// A measurement that is going on.
pub type Measuring<'a, E> = Pin<Box<dyn Future<Output = Result<Measurement, E>> + 'a>>;

/// Something that can be measured with what a program has for it, `C`: a stage of its own, a stack, an address.
pub struct Scenario<C, E> {
    /// What it is asked for by.
    pub name: &'static str,
    /// What is measured, beside what, in one line.
    pub says: &'static str,
    /// Runs when nothing is named. What takes very long is run only when it is asked for.
    pub usual: bool,
    /// Measures.
    pub measure: for<'a> fn(&'a C) -> Measuring<'a, E>,
}

impl<C, E> Scenario<C, E> {
    /// Whether it is to run when these were asked for.
    pub fn is_wanted(&self, names: &[String]) -> bool {
        if names.is_empty() { self.usual } else { names.iter().any(|name| name == self.name) }
    }
}
