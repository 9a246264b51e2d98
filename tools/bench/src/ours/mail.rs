//! The part of ours that sends mails, as `notifications` of the shop does: a handler writes down that a mail is wanted, a worker sends it outside
//! of any transaction and records that it did.

use anyhow::Result;
use messaging::{
    Broker, BrokerOptions, Consumer, Handler, HandlerError, Job, Outbox, OutboxTransaction, Outcome, Relay, Task,
    TaskError, Worker,
};
use uuid::Uuid;

use super::{PARTS, Running, until_up};
use crate::{
    scene::{Happened, Noted, SERVICE, Scene},
    smtp::Mailer,
};

/// Wants a mail for each event.
struct WantMail;

impl Handler<Happened> for WantMail {
    async fn handle(&self, event: Happened, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let order: Uuid = event.key.parse().map_err(HandlerError::reject)?;
        sqlx::query("insert into letters (order_id) values ($1)").bind(order).execute(&mut **tx).await?;
        tx.enqueue(SendMail::NAME, order);
        Ok(())
    }
}

struct SendMail(Mailer);

impl Task for SendMail {
    const NAME: &'static str = "send_mail";
    type Done = ();

    async fn perform(&self, job: &Job) -> Result<(), TaskError> {
        self.0.send(job.id).await.map_err(TaskError::retry)
    }

    async fn record(&self, job: &Job, outcome: Outcome<()>, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        if let Outcome::Done(()) = outcome {
            sqlx::query("update letters set sent_at = now() where order_id = $1")
                .bind(job.id)
                .execute(&mut **tx)
                .await?;
            tx.publish(&Noted { key: job.id.to_string() })?;
        }
        Ok(())
    }
}

/// A whole service that takes orders and sends so many mails at once. All of its parts share so many connections to the database.
pub(crate) async fn service(
    scene: &Scene,
    mailer: &Mailer,
    connections: u32,
    mails: usize,
) -> Result<(Outbox, Running)> {
    let outbox = Outbox::new(scene.pool(connections)?, SERVICE);
    let broker = Broker::connect(BrokerOptions::new(scene.stage.vhost.url_for(SERVICE), SERVICE)?);
    let mut running = Running::new();
    let relay = Relay::new(&outbox, &broker);
    let consumer = Consumer::new(SERVICE, &broker, &outbox).on(WantMail);
    let worker = Worker::new(&outbox, SendMail(mailer.clone())).concurrency(mails);
    let stop = running.stop.clone();
    running.tasks.spawn(async move {
        tokio::try_join!(relay.run(stop.clone()), consumer.run(stop.clone()), worker.run(stop))?;
        broker.close().await;
        Ok(())
    });
    until_up(&outbox, PARTS + 1).await?;
    Ok((outbox, running))
}
