//! The way of an order, read from `statements.sql`: which database is asked what, and when a message goes on.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

const STATEMENTS: &str = include_str!("statements.sql");
/// Begins a transaction.
const BEGIN: &str = "-- @ ";

/// What one worker does before a message goes on.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) database: &'static str,
    pub(super) transactions: Vec<Vec<Statement>>,
}

/// Its only parameter is the order.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) text: Arc<str>,
    pub(super) names_order: bool,
}

/// All of it, for this customer and these goods.
pub(super) fn way(customer: &str, sku: &str) -> Result<Vec<Hop>> {
    ensure!(
        [customer, sku].iter().all(|text| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')),
        "a customer and a product that can stand in quotes"
    );
    let mut hops: Vec<Hop> = Vec::new();
    for part in STATEMENTS.split(BEGIN).skip(1) {
        let (database, text) = part.split_once('\n').context("a database and statements")?;
        let statement = |text: &str| {
            let text: Arc<str> = text.trim().replace(":customer", customer).replace(":sku", sku).into();
            Statement { names_order: text.contains("$1"), text }
        };
        let statements = text.split(";\n").filter(|text| !text.trim().is_empty()).map(statement).collect();
        match hops.last_mut().filter(|last| last.database == database) {
            Some(last) => last.transactions.push(statements),
            None => hops.push(Hop { database, transactions: vec![statements] }),
        }
    }
    Ok(hops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_through_the_services_and_ends_with_a_mail() {
        let way = way("01a20fd0-1213-77d4-93e7-37032ff9a7d4", "MUG-01").unwrap();
        let databases: Vec<_> = way.iter().map(|hop| hop.database).collect();
        assert_eq!(
            databases,
            ["orders", "inventory", "orders", "payments", "orders", "inventory", "orders", "notifications"]
        );
        let statements = || way.iter().flat_map(|hop| &hop.transactions).flatten();
        assert!(statements().all(|one| !one.text.contains(":customer") && !one.text.contains("-- ")));
        assert!(statements().all(|one| !one.text.contains(";\n")));
    }

    #[test]
    fn what_cannot_stand_in_quotes_is_refused() {
        assert!(way("'; drop table orders", "MUG-01").is_err());
    }
}
