//! What can be done to connections, and to whose. Nothing is done here.

use std::time::Duration;

/// What is done. Those of one protocol never bite in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes either way and nobody is told, as when a network drops packets. What was said meanwhile passes when it is over.
    /// Counts what was held back.
    Silence,
    /// New connections are reset. Counts them.
    Refuse,
    /// Whatever is said passes this much later. Counts how often.
    Slow(Duration),
    /// So many bytes pass in a second, each way of each connection. Counts what had to wait.
    Throttle {
        /// At least 1.
        bytes_per_second: u32,
    },
    /// AMQP: the broker's `basic.ack` and `basic.nack` to a publisher are lost.
    LoseConfirms {
        /// So many pass before that.
        skip: u64,
        /// So many are lost then.
        times: u64,
    },
    /// AMQP: one `basic.ack`, `basic.nack` or `basic.reject` of a consumer is lost, and its connection with it: TCP loses nothing from the
    /// midst of a connection that lives on.
    LoseAck,
    /// AMQP: one delivery, and what follows it on its connection, comes this much later.
    DelayDelivery(Duration),
    /// AMQP: the connection of a publisher is cut once so many messages were passed on whole, and before their confirms pass.
    CutAfterPublishes(u64),
    /// PostgreSQL: a transaction that wrote something is committed, and the connection is cut in place of the answer. Once.
    LoseCommitReply,
    /// PostgreSQL: the connection is cut in place of the answer to a statement that wrote something, in a transaction. Once.
    CutTransaction,
    /// PostgreSQL: the connection is cut in place of the answer to whatever is asked next. Once.
    CutReply,
}

/// What a connection is used for, as far as was seen. PostgreSQL has no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Messages were published on it.
    Publishes,
    /// A consumer was started on it.
    Consumes,
}

/// Whose connections a fault is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    user: Option<String>,
    role: Option<Role>,
}

impl Aim {
    /// Everybody's.
    #[must_use]
    pub fn everybody() -> Self {
        Self::default()
    }

    /// Those of the user of this name.
    #[must_use]
    pub fn at(user: &str) -> Self {
        Self { user: Some(user.to_owned()), role: None }
    }

    /// Of these only those that are used for it.
    #[must_use]
    pub fn that(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    pub(crate) fn is_for(&self, who: &Who) -> bool {
        let role = match self.role {
            None => true,
            Some(Role::Publishes) => who.publishes,
            Some(Role::Consumes) => who.consumes,
        };
        role && self.user.as_ref().is_none_or(|user| who.user.as_ref() == Some(user))
    }
}

/// Whose a connection is, and what for, as far as was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) user: Option<String>,
    pub(crate) publishes: bool,
    pub(crate) consumes: bool,
}
