//! What can be done to the shop: a line for each kind of fault, with what a plan needs to know of it. How each is done is in [`super::faults`].

use serde::Serialize;

use crate::engines::Choice;

/// What a fault is done to. Two faults at once are of different grounds, or each would hide what the other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Processes of services.
    Processes,
    /// RabbitMQ.
    Broker,
    /// One node of RabbitMQ, where there are three.
    Cluster,
    /// PostgreSQL.
    Database,
    /// What lies between the services and both of these.
    Network,
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
            /// Whether it can be done to the brokers that were chosen.
            pub(super) fn fits(self, choice: &Choice) -> bool {
                let cluster = choice.brokers.is_some_and(|count| count > 1);
                match self {
                    // Between the services and several brokers there is no proxy.
                    Self::LostConfirm | Self::LostConsumerAck | Self::CutAfterPublishes | Self::LateDelivery => !cluster,
                    Self::BrokerSilent | Self::BrokerRefused => !cluster,
                    // Of several, `pause_node` does that to one of them.
                    Self::PauseBroker => !cluster,
                    _ => cluster || self.about().ground != Ground::Cluster,
                }
            }

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
    /// Not that of orders: nothing would be sent to it while its service stands still.
    FullQueue { "full_queue", Broker, Aim::Service(&["inventory", "payments", "notifications"]), 3000..10000, "a queue is full and refuses what is published to it" }
    LostBinding { "lost_binding", Broker, Aim::Service(&["inventory"]), 1000..6000, "placed orders reach nobody who sells, until they are sent again from the journal" }
    LostQueue { "lost_queue", Broker, Aim::Service(CONSUMERS), 1000..4000, "a queue is deleted, made anew, and filled from the journals" }
    KillLeader { "kill_leader", Cluster, Aim::Whole, 1000..6000, "kill -9 of the broker that leads the most queues" }
    /// The others take it for gone after 8 s to 10 s.
    PauseNode { "pause_node", Cluster, Aim::Whole, 12000..25000, "SIGSTOP of the broker that leads the most queues, for longer than the others wait for it" }
    CutOff { "cut_off", Cluster, Aim::Whole, 12000..25000, "the broker that leads the most queues is cut off from the others, and not from the services" }
    RollingBrokers { "rolling_brokers", Cluster, Aim::Whole, 3000..6000, "each broker is restarted in turn" }
    WipeBroker { "wipe_broker", Broker, Aim::Whole, 0..2000, "the broker loses its disk; every queue is filled from the journals" }
    TerminateSessions { "terminate_sessions", Database, Aim::Service(ALL), 0..0, "every session of a service in its database is ended" }
    TerminateOften { "terminate_often", Database, Aim::Service(ALL), 4000..8000, "a random session of a service is ended every 200 ms" }
    CrashDatabase { "crash_database", Database, Aim::Whole, 0..3000, "the database is stopped as by a crash, and recovers" }
    KillDatabase { "kill_database", Database, Aim::Whole, 0..3000, "kill -9 of the database" }
    PauseDatabase { "pause_database", Database, Aim::Whole, 3000..12000, "SIGSTOP of every process of the database: it is there and silent" }
    LockedTable { "locked_table", Database, Aim::Service(CONSUMERS), 3000..10000, "somebody holds a lock on the tables that handlers write" }
    Deadlocks { "deadlocks", Database, Aim::Service(&["inventory"]), 4000..8000, "somebody locks products in the other order, again and again" }
    OldSnapshot { "old_snapshot", Database, Aim::Service(ALL), 5000..15000, "a transaction stays open and holds back vacuum" }
    LostConfirm { "lost_confirm", Network, Aim::Service(CONSUMERS), 3000..6000, "a confirm of the broker never arrives" }
    LostConsumerAck { "lost_consumer_ack", Network, Aim::Service(CONSUMERS), 3000..6000, "an acknowledgement is lost, and its connection" }
    LateDelivery { "late_delivery", Network, Aim::Service(CONSUMERS), 3000..6000, "a delivery takes seconds" }
    CutAfterPublishes { "cut_after_publishes", Network, Aim::Service(CONSUMERS), 3000..6000, "a connection is cut behind a message and before its confirm" }
    /// Heartbeats give a connection up after 20 s.
    BrokerSilent { "broker_silent", Network, Aim::Whole, 12000..30000, "nothing passes between services and broker, and nobody is told" }
    BrokerRefused { "broker_refused", Network, Aim::Whole, 1000..5000, "connections to the broker are cut, and refused for a time" }
    LostCommitReply { "lost_commit_reply", Network, Aim::Service(CONSUMERS), 3000..6000, "a commit is done, and its answer is lost" }
    CutTransaction { "cut_transaction", Network, Aim::Service(CONSUMERS), 3000..6000, "a transaction is cut where it has written" }
    CutReply { "cut_reply", Network, Aim::Service(ALL), 3000..6000, "a connection to the database is cut before the answer" }
    /// Found out by a deadline, not by TCP.
    DatabaseGone { "database_gone", Network, Aim::Whole, 2000..6000, "the database is another machine from now on, and its connections lead nowhere" }
    DatabaseSilent { "database_silent", Network, Aim::Whole, 4000..15000, "nothing passes between services and database, and nobody is told" }
    DatabaseSlow { "database_slow", Network, Aim::Whole, 4000..8000, "whatever is said to the database or by it comes late" }
    DatabaseRefused { "database_refused", Network, Aim::Whole, 1000..5000, "connections to the database are cut, and refused for a time" }
    MailReplyLost { "mail_accepted_reply_lost", Surroundings, Aim::Whole, 3000..6000, "the mail server takes a mail and is cut off before it says so" }
    MailDeferred { "mail_deferred", Surroundings, Aim::Whole, 3000..8000, "the mail server takes no mail for now" }
    MailRefused { "mail_refused", Surroundings, Aim::Whole, 3000..6000, "the mail server refuses mails for good" }
    MailHangs { "mail_hangs", Surroundings, Aim::Whole, 3000..6000, "the mail server says nothing any more to one who brings mail" }
    PauseBackend { "pause_backend", Surroundings, Aim::Whole, 3000..15000, "the mail server and the collector of traces stand still" }
    /// Only where there is another commit to take it from.
    OtherVersion { "other_version", Processes, Aim::Process(ALL), 4000..10000, "a process of another commit works beside those of this one" }
    ClockAhead { "clock_ahead", Processes, Aim::Service(&["payments", "notifications"]), 8000..15000, "the clock of a service is an hour ahead, then right again" }
    ClockBehind { "clock_behind", Processes, Aim::Service(&["payments", "notifications"]), 8000..15000, "the clock of a service is an hour behind, then right again" }
    Poison { "poison", Messages, Aim::Service(CONSUMERS), 0..0, "a message that cannot be read" }
    Duplicate { "duplicate", Messages, Aim::Service(CONSUMERS), 0..0, "messages that were handled are delivered once more" }
}

impl Kind {
    /// Whether it lies between the services and the database, not the broker.
    pub(super) fn is_of_the_database(self) -> bool {
        matches!(self, Self::DatabaseGone | Self::DatabaseSilent | Self::DatabaseSlow | Self::DatabaseRefused)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_broker_alone_has_no_cluster_to_fall_out_of() {
        let (alone, cluster) = (Choice::default(), Choice { brokers: Some(3), ..Choice::default() });
        assert!(!Kind::KillLeader.fits(&alone) && Kind::KillLeader.fits(&cluster));
        assert!(Kind::KillBroker.fits(&alone) && Kind::FullQueue.fits(&alone));
    }

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.about().name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
