//! The command that sends what a service announced once more, to one consumer: its queue was lost, or it is new.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;

use crate::{Options, Process};

/// Which events of the journal are sent again, to whom, and how this process reaches database and broker.
#[derive(Clone, Debug, Args)]
pub struct Replay<C: Args> {
    /// The consumer that gets them; nobody else does
    #[arg(long, value_name = "CONSUMER")]
    pub to: String,

    /// Only what was published at or after this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<DateTime<Utc>>,

    /// Only what was published before this time; now, if it is not given
    #[arg(long, value_name = "TIME")]
    pub until: Option<DateTime<Utc>>,

    /// Only the events about this key
    #[arg(long)]
    pub key: Option<String>,

    /// Only these types, such as orders.v1.OrderPlaced; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,

    /// The service's own settings
    #[command(flatten)]
    pub config: C,
}

impl<C: Args> Replay<C> {
    /// Sends them; how many there were. What the consumer has handled before is absorbed by its inbox.
    pub(crate) async fn run(&self, service: &'static str, options: &Options) -> anyhow::Result<u64> {
        let process = Process::new(service, options)?;
        let mut replay = messaging::Replay::to(&self.to);
        replay = self.since.into_iter().fold(replay, messaging::Replay::since);
        replay = self.until.into_iter().fold(replay, messaging::Replay::until);
        replay = self.key.iter().fold(replay, messaging::Replay::key);
        if !self.types.is_empty() {
            replay = replay.types(&self.types);
        }
        let sent = process.outbox("replay", 2)?.replay(process.broker(), &replay).await;
        process.broker().close().await;
        sent.with_context(|| format!("the events cannot be sent to {}", self.to))
    }
}
