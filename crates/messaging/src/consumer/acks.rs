//! Acknowledgements of one channel's life: the low watermark with `multiple`, single ones above it when it is stuck.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use failpoints::{hit, without};
use lapin::{Channel, options::BasicAckOptions};

/// Done deliveries above an unfinished one that are tolerated before they are acknowledged one by one.
const STUCK: usize = 32;

/// Which deliveries of a channel are in hand and which are done.
pub(super) struct Acks {
    channel: Channel,
    in_hand: Mutex<BTreeMap<u64, bool>>,
    /// Held while acknowledgements are on their way: one for all up to a tag that overtakes a lower one makes that one unknown to the broker,
    /// which then closes the channel.
    sending: tokio::sync::Mutex<()>,
}

impl Acks {
    pub(super) fn new(channel: Channel) -> Self {
        if without("ack-life") {
            *latest() = Some(channel.clone());
        }
        Self { channel, in_hand: Mutex::default(), sending: tokio::sync::Mutex::default() }
    }

    pub(super) fn received(&self, tag: u64) {
        self.lock().insert(tag, false);
    }

    /// Acknowledges what may be acknowledged now. The effect of each of these is committed. A failed acknowledgement does no harm:
    /// the message comes again, by another channel, and the inbox absorbs it.
    pub(super) async fn done(&self, tags: impl IntoIterator<Item = u64>) {
        self.mark(tags);
        // Whoever is in front may acknowledge these as well; then nothing is due any more.
        let _in_order = if without("ack-order") { None } else { Some(self.sending.lock().await) };
        let due = due(&mut self.lock());
        let latest = if without("ack-life") { latest().clone() } else { None };
        let channel = latest.as_ref().unwrap_or(&self.channel);
        for (tag, multiple) in due {
            if acknowledge(channel, tag, multiple).await.is_err() {
                // On a channel that lives on, the broker would wait for it, and nobody would tell it.
                let _ = channel.close(200, "an acknowledgement failed".into()).await;
                return;
            }
        }
    }

    fn mark(&self, tags: impl IntoIterator<Item = u64>) {
        let mut in_hand = self.lock();
        for tag in tags {
            if let Some(done) = in_hand.get_mut(&tag) {
                *done = true;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, bool>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn acknowledge(channel: &Channel, tag: u64, multiple: bool) -> lapin::Result<()> {
    hit("consumer.before_ack").await?;
    channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
    hit("consumer.after_ack").await?;
    Ok(())
}

/// For the switch `ack-life`: the channel of whichever life began last.
fn latest() -> std::sync::MutexGuard<'static, Option<Channel>> {
    static LATEST: Mutex<Option<Channel>> = Mutex::new(None);
    LATEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what can be acknowledged out of the map: (tag, multiple).
fn due(in_hand: &mut BTreeMap<u64, bool>) -> Vec<(u64, bool)> {
    let mut acks = Vec::new();
    let mut watermark = None;
    while let Some(first) = in_hand.first_entry()
        && *first.get()
    {
        watermark = Some(first.remove_entry().0);
    }
    acks.extend(watermark.map(|tag| (tag, true)));
    let above: Vec<_> = in_hand.iter().filter(|(_, done)| **done).map(|(tag, _)| *tag).collect();
    if above.len() >= STUCK {
        for tag in above {
            in_hand.remove(&tag);
            acks.push((tag, false));
        }
    }
    acks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(done: &[u64], open: &[u64]) -> BTreeMap<u64, bool> {
        done.iter().map(|tag| (*tag, true)).chain(open.iter().map(|tag| (*tag, false))).collect()
    }

    #[test]
    fn everything_below_the_first_open_delivery_goes_in_one_ack() {
        let mut in_hand = state(&[1, 2, 3, 5], &[4]);
        assert_eq!(due(&mut in_hand), [(3, true)]);
        assert_eq!(in_hand, state(&[5], &[4]));
    }

    #[test]
    fn nothing_is_acknowledged_past_an_open_delivery() {
        assert_eq!(due(&mut state(&[2, 3], &[1])), []);
    }

    #[test]
    fn a_stuck_watermark_does_not_hold_back_the_rest() {
        let done: Vec<_> = (2..=u64::try_from(STUCK).unwrap() + 1).collect();
        let mut in_hand = state(&done, &[1]);
        assert_eq!(due(&mut in_hand), done.iter().map(|tag| (*tag, false)).collect::<Vec<_>>());
        assert_eq!(in_hand, state(&[], &[1]));
    }
}
