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
    /// When it runs without being named.
    pub when: When,
    /// Measures.
    pub measure: for<'a> fn(&'a C) -> Measuring<'a, E>,
}

/// When something is measured that was not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// Unless it has to be quick.
    NotQuick,
    /// Never: it takes very long, or is of another kind than the rest.
    Named,
}

impl<C, E> Scenario<C, E> {
    /// Whether it is to run when these were asked for, and it has to be quick or not.
    pub fn is_wanted(&self, names: &[String], quick: bool) -> bool {
        match self.when {
            _ if !names.is_empty() => names.iter().any(|name| name == self.name),
            When::Always => true,
            When::NotQuick => !quick,
            When::Named => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(when: When) -> Scenario<(), ()> {
        Scenario { name: "relay", says: "", when, measure: |()| Box::pin(async { Err(()) }) }
    }

    #[test]
    fn who_is_named_runs_and_who_is_not_named_runs_when_it_is_usual() {
        let (named, other) = (["relay".to_owned()], ["commit".to_owned()]);
        let wanted = |when| {
            let scenario = scenario(when);
            let nothing_named = [false, true].map(|quick| scenario.is_wanted(&[], quick));
            (scenario.is_wanted(&named, true), scenario.is_wanted(&other, false), nothing_named)
        };
        assert_eq!(wanted(When::Always), (true, false, [true, true]));
        assert_eq!(wanted(When::NotQuick), (true, false, [true, false]));
        assert_eq!(wanted(When::Named), (true, false, [false, false]));
    }
}
