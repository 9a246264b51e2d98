//! What can be done to the shop: a line for each kind of fault, with what a plan needs to know of it. How each is done is in [`super::faults`].

use serde::Serialize;

/// What a fault is done to. Two faults at once are of different grounds, or each would hide what the other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Processes of services.
    Processes,
    /// RabbitMQ.
    Broker,
    /// PostgreSQL.
    Database,
    /// The mail server and the collector of traces.
    Surroundings,
    /// The messages themselves.
    Messages,
}

/// What has to be drawn for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// One process of one of these services.
    Process(&'static [&'static str]),
    /// One of these services, all of its processes.
    Service(&'static [&'static str]),
    /// Nothing: it is done to all there is.
    Whole,
}

/// Every service that is judged.
pub(super) const ALL: &[&str] = &["users", "orders", "inventory", "payments", "notifications"];
/// Those that consume.
pub(super) const CONSUMERS: &[&str] = &["orders", "inventory", "payments", "notifications"];

/// What is known of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// As it is called in the plan, the ledger and the report.
    pub(super) name: &'static str,
    pub(super) ground: Ground,
    pub(super) aim: Aim,
    /// How long it lasts: drawn between these, in milliseconds. 0 and 0: it is over at once.
    pub(super) lasts_ms: (u64, u64),
    /// What it is, for people.
    pub(super) what: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident { $name:literal, $ground:ident, $aim:expr, $from:literal..$to:literal, $what:literal })*) => {
        /// What can be done to the shop.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum Kind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl Kind {
            pub(super) const ALL: &[Self] = &[$(Self::$kind,)*];

            pub(super) const fn about(self) -> About {
                match self {
                    $(Self::$kind => About {
                        name: $name, ground: Ground::$ground, aim: $aim, lasts_ms: ($from, $to), what: $what,
                    },)*
                }
            }
        }
    };
}

kinds! {
    Kill { "kill", Processes, Aim::Process(ALL), 0..3000, "kill -9 of a process" }
    /// A relay's lease ends after 15 s.
    Pause { "pause", Processes, Aim::Process(ALL), 17000..23000, "SIGSTOP of a process for longer than its leases, then SIGCONT" }
    Terminate { "terminate", Processes, Aim::Process(ALL), 0..3000, "SIGTERM of a process: it drains" }
    Point { "point", Processes, Aim::Whole, 1000..4000, "a process aborts, gets an error, panics or hangs between two steps" }
    RollingRestart { "rolling_restart", Processes, Aim::Service(ALL), 3000..6000, "each process of a service is restarted in turn" }
    CloseConnections { "close_connections", Broker, Aim::Whole, 0..0, "every connection to the broker is closed by the broker" }
    StopBroker { "stop_broker", Broker, Aim::Whole, 0..3000, "the broker is stopped and started" }
    KillBroker { "kill_broker", Broker, Aim::Whole, 0..3000, "kill -9 of the broker" }
    PauseBroker { "pause_broker", Broker, Aim::Whole, 3000..20000, "SIGSTOP of the broker: it is there and silent" }
    MemoryAlarm { "memory_alarm", Broker, Aim::Whole, 3000..10000, "the broker is out of memory and blocks whoever publishes" }
    DiskAlarm { "disk_alarm", Broker, Aim::Whole, 3000..10000, "the broker is out of disk space and blocks whoever publishes" }
    FullQueue { "full_queue", Broker, Aim::Service(CONSUMERS), 3000..10000, "a queue is full and refuses what is published to it" }
    LostBinding { "lost_binding", Broker, Aim::Service(&["inventory"]), 1000..6000, "nobody hears of placed orders: what is published comes back" }
    LostQueue { "lost_queue", Broker, Aim::Service(CONSUMERS), 1000..4000, "a queue is deleted, made anew, and filled from the journals" }
    WipeBroker { "wipe_broker", Broker, Aim::Whole, 0..2000, "the broker loses its disk; every queue is filled from the journals" }
    TerminateSessions { "terminate_sessions", Database, Aim::Service(ALL), 0..0, "every session of a service in its database is ended" }
    TerminateOften { "terminate_often", Database, Aim::Service(ALL), 4000..8000, "a random session of a service is ended every 200 ms" }
    CrashDatabase { "crash_database", Database, Aim::Whole, 0..3000, "the database is stopped as by a crash, and recovers" }
    KillDatabase { "kill_database", Database, Aim::Whole, 0..3000, "kill -9 of the database" }
    PauseDatabase { "pause_database", Database, Aim::Whole, 3000..12000, "SIGSTOP of every process of the database: it is there and silent" }
    LockedTable { "locked_table", Database, Aim::Service(CONSUMERS), 3000..10000, "somebody holds a lock on the tables that handlers write" }
    Deadlocks { "deadlocks", Database, Aim::Service(&["inventory"]), 4000..8000, "somebody locks products in the other order, again and again" }
    OldSnapshot { "old_snapshot", Database, Aim::Service(ALL), 5000..15000, "a transaction stays open and holds back vacuum" }
    PauseBackend { "pause_backend", Surroundings, Aim::Whole, 3000..15000, "the mail server and the collector of traces stand still" }
    /// Only where there is another commit to take it from.
    OtherVersion { "other_version", Processes, Aim::Process(ALL), 4000..10000, "a process of another commit works beside those of this one" }
    ClockAhead { "clock_ahead", Processes, Aim::Service(&["payments", "notifications"]), 8000..15000, "the clock of a service is an hour ahead, then right again" }
    ClockBehind { "clock_behind", Processes, Aim::Service(&["payments", "notifications"]), 8000..15000, "the clock of a service is an hour behind, then right again" }
    Poison { "poison", Messages, Aim::Service(CONSUMERS), 0..0, "a message that cannot be read" }
    Duplicate { "duplicate", Messages, Aim::Service(CONSUMERS), 0..0, "messages that were handled are delivered once more" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.about().name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
