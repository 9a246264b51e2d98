//! The shop as people use it: through its public doors, as an operator or as a customer. The seeds, the demonstration and the system
//! tests all go through it. Nothing here reads a database or a queue.

mod accounts;
mod mails;
mod orders;
mod products;
mod traces;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    services::{self, INVENTORY, NOTIFICATIONS, ORDERS, PAYMENTS, USERS},
    state::State,
};

pub use accounts::Person;
pub use mails::Mail;
pub use orders::{Entry, Line, Order, Placed};
pub use products::{Money, Product, Stock};
pub use traces::{Span, Trace};

/// Far more than anything takes that need not wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where the doors are. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Shop {
    users: u16,
    orders: u16,
    inventory: u16,
    payments: u16,
    notifications: u16,
    mailbox: u16,
    traces: u16,
    operator: (String, String),
}

impl Shop {
    /// Containers of a stack are published on the same ports as programs of its own.
    pub(crate) fn of(state: &State) -> Self {
        let port = |service| state.ports.service(service, 0);
        Self {
            users: port(&USERS),
            orders: port(&ORDERS),
            inventory: port(&INVENTORY),
            payments: port(&PAYMENTS),
            notifications: port(&NOTIFICATIONS),
            mailbox: state.ports.mailbox(),
            traces: state.ports.traces(),
            operator: (services::OPERATOR_EMAIL.to_owned(), state.operator_password.clone()),
        }
    }

    /// The same shop, with orders placed and read at another replica.
    #[must_use]
    pub fn with_orders_at(&self, port: u16) -> Self {
        Self { orders: port, ..self.clone() }
    }

    /// The port of the service that takes orders.
    #[must_use]
    pub fn orders_port(&self) -> u16 {
        self.orders
    }

    /// The port of the service that sends mails.
    #[must_use]
    pub fn notifications_port(&self) -> u16 {
        self.notifications
    }
}

/// Looks until there is something to see.
///
/// # Errors
/// When there is nothing within `patience`; says what was waited for.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let found = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(patience, found).await {
        Ok(found) => found,
        Err(_) => bail!("waited {} s in vain for {what}", patience.as_secs()),
    }
}
