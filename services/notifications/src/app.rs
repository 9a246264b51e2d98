//! The composition root: puts the parts together. It has no logic of its own.

use std::{sync::Arc, time::Duration};

use messaging::{RetryPolicy, Worker, topology::Service};
use process::Process;
use web::Readiness;

use crate::{
    Config, MailConfig, events, housekeeping, http,
    mail::Composer,
    metrics,
    recipient::Recipient,
    send_email::SendEmail,
    smtp::{Deadlines, Smtp},
    smtp_server::SmtpServer,
};

/// The service's name: its queue, its broker user, and the head of the events it announces.
pub const NAME: &str = "notifications";
/// The longest wait between two attempts at one mail.
const MAIL_RETRY_MAX: Duration = Duration::from_secs(3600);

/// Puts one process of the service together and binds its port. Nothing has to be reachable yet: database, broker and mail
/// server are waited for when it runs. Needs a tokio runtime.
pub fn build(config: Config) -> anyhow::Result<Process> {
    metrics::describe();
    let mail = &config.mail;
    let mut process = Process::new(NAME, &config.process)?.migrations(sqlx::migrate!());
    let smtp = Smtp::new(SmtpServer::parse(&mail.smtp_url)?, deadlines(mail));
    let composer = Arc::new(Composer::new(mail.mail_from.clone(), &mail.shop_name, &mail.users_url));

    let connections = &config.process.connections;
    process.consume(events::consumer(process.broker(), &process.outbox("consumer", connections.consumer)?, &composer));
    let letters = process.outbox("worker", connections.worker)?;
    let operations = Recipient::from_settings(&mail.operations_email);
    let sender = SendEmail { pool: letters.pool().clone(), composer, smtp: smtp.clone(), operations };
    process.work(worker(Worker::new(&letters, sender), mail));
    housekeeping::keep(&mut process, config.notification_retention_days)?;

    let requests = process.outbox("http", connections.http)?;
    let routes = http::routes(config.jwks.verifier(), requests);
    process.serve(config.process.http, http::openapi(), readiness(&smtp), routes)?;
    // Not before the worker has finished what it has in hand.
    process.at_end(async move { smtp.close().await });
    Ok(process)
}

/// What this service's handlers need of the broker.
pub async fn topology() -> anyhow::Result<Service> {
    let composer = Arc::new(Composer::new("nobody@localhost".parse()?, "", ""));
    process::topology(NAME, |broker, outbox| events::consumer(broker, outbox, &composer)).await
}

fn deadlines(mail: &MailConfig) -> Deadlines {
    Deadlines { commands: mail.smtp_timeout_seconds, mail: mail.smtp_answer_timeout_seconds }
}

fn worker(worker: Worker<SendEmail>, mail: &MailConfig) -> Worker<SendEmail> {
    let retry = RetryPolicy::exponential(mail.mail_retry_seconds)
        .max_delay(MAIL_RETRY_MAX)
        .max_attempts(mail.mail_max_attempts);
    worker.concurrency(usize::from(mail.mail_concurrency)).deadline(deadlines(mail).attempt()).retry(retry)
}

/// A mail server that is down is told to people; requests are answered without it.
fn readiness(smtp: &Smtp) -> Readiness {
    let smtp = smtp.clone();
    Readiness::new().reported("smtp", move || {
        let smtp = smtp.clone();
        async move { vec![(String::new(), smtp.health().await)] }
    })
}
