//! Which brokers a stack is to have of its own: of which version, and how many. What a stack was made with, it keeps.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::private_rabbitmq::{self, debian_root};
use crate::state::State;

/// What the caller wants of the brokers that are started.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// A RabbitMQ of another release than the system's; it is brought into a folder of its own once, which takes root and some minutes.
    #[arg(long, value_name = "VERSION", value_parser = clap::builder::PossibleValuesParser::new(debian_root::versions()))]
    pub rabbitmq: Option<String>,
    /// How many brokers, as one cluster on this machine: 1 or 3.
    #[arg(long, value_name = "COUNT", value_parser = odd)]
    pub brokers: Option<u16>,
}

/// Of two nodes, neither is a majority.
fn odd(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("a cluster here has 3 nodes; 1 is no cluster".to_owned()),
    }
}

/// The brokers that a stack was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Brokers {
    /// None is the system's.
    pub(crate) version: Option<String>,
    pub(crate) count: u16,
}

impl Default for Brokers {
    fn default() -> Self {
        Self { version: None, count: 1 }
    }
}

impl Choice {
    /// Whether anything was chosen.
    pub(crate) fn is_made(&self) -> bool {
        self.rabbitmq.is_some() || self.brokers.is_some()
    }

    /// A name for what needs other engines when it is tested with others: `test`, `test-4-3`.
    pub(crate) fn name(&self, of: &str) -> String {
        let version = self.rabbitmq.iter().map(|version| format!("-{}", version.replace('.', "-")));
        let count = self.brokers.iter().filter(|count| **count > 1).map(|count| format!("-x{count}"));
        std::iter::once(of.to_owned()).chain(version).chain(count).collect()
    }

    /// What this stack has: what it was made with, else what is chosen now.
    pub(super) fn settle(&self, state: &mut State) -> Result<Brokers> {
        // Stacks of before there was a choice have data and no record.
        let made = private_rabbitmq::has_data(state).then(|| state.brokers.clone().unwrap_or_default());
        let brokers = match made {
            None => Brokers { version: self.rabbitmq.clone(), count: self.brokers.unwrap_or(1) },
            Some(made) => {
                let same = self.rabbitmq.as_ref().is_none_or(|version| made.version.as_ref() == Some(version))
                    && self.brokers.is_none_or(|count| made.count == count);
                ensure!(
                    same,
                    "the stack {name} was made with {} of RabbitMQ {}, and keeps them; `cargo dev down --purge --name {name}` begins anew, \
                     another --name makes another one",
                    if made.count == 1 { "one node".to_owned() } else { format!("{} nodes", made.count) },
                    made.version.as_deref().unwrap_or("as it is installed"),
                    name = state.name,
                );
                made
            }
        };
        state.brokers = Some(brokers.clone());
        Ok(brokers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_a_majority() {
        assert_eq!((odd("1"), odd("3")), (Ok(1), Ok(3)));
        for text in ["0", "2", "4", "many"] {
            odd(text).expect_err(text);
        }
    }

    #[test]
    fn what_is_tested_on_other_brokers_has_a_name_of_its_own() {
        let chosen = |version: Option<&str>, brokers| Choice { rabbitmq: version.map(str::to_owned), brokers };
        assert_eq!(chosen(None, Some(1)).name("test"), "test");
        assert_eq!(chosen(Some("4.3"), None).name("test"), "test-4-3");
        assert_eq!(chosen(Some("4.3"), Some(3)).name("test"), "test-4-3-x3");
    }
}
