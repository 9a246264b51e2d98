//! What is measured when somebody looks, and not in between: sizes of pools and queues that are there to be read.

use std::sync::{Arc, Mutex, PoisonError, Weak};

type Record = dyn Fn() + Send + Sync;

static RECORDS: Mutex<Vec<Weak<Record>>> = Mutex::new(Vec::new());

/// Keeps something measured at each scrape; dropped, it is measured no more.
#[must_use = "nothing is measured once this is dropped"]
pub struct AtScrape {
    _record: Arc<Record>,
}

/// Has `record` called before metrics are rendered, until what is returned is dropped. It must not block.
pub fn at_scrape(record: impl Fn() + Send + Sync + 'static) -> AtScrape {
    let record: Arc<Record> = Arc::new(record);
    records().push(Arc::downgrade(&record));
    AtScrape { _record: record }
}

pub(crate) fn record_all() {
    let live: Vec<_> = {
        let mut records = records();
        records.retain(|record| record.strong_count() > 0);
        records.iter().filter_map(Weak::upgrade).collect()
    };
    for record in live {
        record();
    }
}

fn records() -> std::sync::MutexGuard<'static, Vec<Weak<Record>>> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn it_is_measured_at_each_scrape_until_it_is_dropped() {
        let looked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&looked);
        let measured = at_scrape(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        record_all();
        record_all();
        assert_eq!(looked.load(Ordering::Relaxed), 2);
        drop(measured);
        record_all();
        assert_eq!(looked.load(Ordering::Relaxed), 2);
    }
}
