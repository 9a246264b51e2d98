//! How many jobs are not done, and since when: every process measures it, because each may be the only one left.

use std::time::Duration;

use crate::{Task, Worker};

pub(super) const PERIOD: Duration = Duration::from_secs(5);

impl<T: Task> Worker<T> {
    pub(super) async fn measure(&self) -> Result<(), sqlx::Error> {
        let row = sqlx::query!(
            r#"select count(*) as "count!",
                      coalesce(extract(epoch from now() - min(enqueued_at)), 0)::float8 as "oldest_seconds!"
               from messaging.job where task = $1"#,
            T::NAME,
        )
        .fetch_one(&self.outbox.pool)
        .await?;
        metrics::gauge!("messaging_jobs_waiting", "task" => T::NAME).set(row.count as f64);
        metrics::gauge!("messaging_jobs_oldest_age_seconds", "task" => T::NAME).set(row.oldest_seconds.max(0.0));
        Ok(())
    }
}
