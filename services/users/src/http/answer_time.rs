//! Evens out the time of answers that must not tell whether an address is known. Both cases do the same slow work already; this hides the
//! small rest, such as one more row.

use std::time::{Duration, Instant};

/// Answers leave at a multiple of this after the request came: what differs is far shorter, so both cases nearly always meet the same one.
const TICK: Duration = Duration::from_millis(100);

/// Waits for the next tick since the request came.
pub(crate) async fn even_out(since: Instant) {
    tokio::time::sleep(until_tick(since.elapsed())).await;
}

fn until_tick(elapsed: Duration) -> Duration {
    let into_tick = Duration::from_nanos((elapsed.as_nanos() % TICK.as_nanos()) as u64);
    TICK - into_tick
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{TICK, until_tick};

    #[test]
    fn whatever_the_work_took_the_answer_leaves_at_a_tick() {
        for micros in [0, 1, 99_999, 100_000, 100_001, 250_000, 1_234_567] {
            let worked = Duration::from_micros(micros);
            let total = worked + until_tick(worked);
            assert_eq!(total.as_nanos() % TICK.as_nanos(), 0, "{worked:?}");
            assert!(total > worked && total <= worked + TICK);
        }
    }
}
