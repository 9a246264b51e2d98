//! How long to wait: exponential backoff with jitter.

use std::time::Duration;

use uuid::Uuid;

/// When a failed message is tried again, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    backoff: Backoff,
    pub(crate) max_attempts: u32,
}

impl RetryPolicy {
    /// Waits `first` after the first failure and twice as long after each further one, up to an hour, with jitter; 8 attempts.
    pub fn exponential(first: Duration) -> Self {
        Self { backoff: Backoff::new(first, Duration::from_secs(3600)), max_attempts: 8 }
    }

    /// The attempt after which the message is dead. At least 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// The longest wait between two attempts.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.backoff.max = delay;
        self
    }

    /// The wait after the `failures`-th failure.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.backoff.delay(failures)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1))
    }
}

/// Doubles from `min` to `max`, each time with up to a quarter less or more, so that what failed together does not return together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max }
    }

    /// The wait after the `failures`-th failure in a row, counted from 1.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let doubled = self.min.saturating_mul(1_u32 << failures.saturating_sub(1).min(20)).min(self.max);
        doubled * 3 / 4 + doubled / 2 * random() / 0xffff
    }
}

/// 16 bits. The last 62 of a version 4 UUID are random: no dependency is needed for a few.
fn random() -> u32 {
    u32::try_from(Uuid::new_v4().as_u128() & 0xffff).unwrap_or_default()
}

/// Any index of so many; 0 of none.
pub(crate) fn any_of(count: usize) -> usize {
    usize::try_from(random()).unwrap_or_default() % count.max(1)
}

/// Between attempts to reach the broker or the database.
pub(crate) const RECONNECT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit_and_jitters_around_it() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for (failures, expected) in [(1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (u32::MAX, 30.0)] {
            let delay = backoff.delay(failures).as_secs_f64();
            assert!((expected * 0.74..=expected * 1.26).contains(&delay), "{failures}: {delay}");
        }
        assert_ne!(backoff.delay(3), backoff.delay(3));
    }
}
