//! The way of an order, read from `statements.sql`: which database is asked what, and when a message goes on.

use std::sync::Arc;

use anyhow::{Context as _, Result};

const STATEMENTS: &str = include_str!("statements.sql");
/// Begins a transaction.
const BEGIN: &str = "-- @ ";

/// What one worker does before a message goes on.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) database: &'static str,
    pub(super) transactions: Vec<Vec<Statement>>,
}

/// What is asked, and with what, in the order of the numbers in its text.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) text: Arc<str>,
    pub(super) parameters: Vec<Parameter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Order,
    Sku,
    Customer,
}

impl Parameter {
    const ALL: [(&'static str, Self); 3] =
        [(":order", Self::Order), (":sku", Self::Sku), (":customer", Self::Customer)];
}

impl Statement {
    fn new(text: &str) -> Self {
        let (mut text, mut parameters) = (text.trim().to_owned(), Vec::new());
        for (name, parameter) in Parameter::ALL {
            if text.contains(name) {
                parameters.push(parameter);
                text = text.replace(name, &format!("${}", parameters.len()));
            }
        }
        Self { text: text.into(), parameters }
    }
}

/// All of it.
pub(super) fn way() -> Result<Vec<Hop>> {
    let mut hops: Vec<Hop> = Vec::new();
    for part in STATEMENTS.split(BEGIN).skip(1) {
        let (database, text) = part.split_once('\n').context("a database and statements")?;
        let statements = text.split(";\n").filter(|text| !text.trim().is_empty()).map(Statement::new).collect();
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
        let way = way().unwrap();
        let databases: Vec<_> = way.iter().map(|hop| hop.database).collect();
        assert_eq!(
            databases,
            ["orders", "inventory", "orders", "payments", "orders", "inventory", "orders", "notifications"]
        );
        let statements = || way.iter().flat_map(|hop| &hop.transactions).flatten();
        assert!(
            statements().all(|one| [":customer", ":order", ":sku", "-- "].iter().all(|left| !one.text.contains(left)))
        );
        assert!(statements().all(|one| !one.text.contains(";\n")));
    }

    #[test]
    fn parameters_are_numbered_for_each_statement() {
        let both = Statement::new("select :sku::text, :order::uuid, :sku::text");
        assert_eq!(
            (&*both.text, &both.parameters[..]),
            ("select $2::text, $1::uuid, $2::text", &[Parameter::Order, Parameter::Sku][..])
        );
        let one = Statement::new("select :sku::text");
        assert_eq!((&*one.text, &one.parameters[..]), ("select $1::text", &[Parameter::Sku][..]));
    }
}
