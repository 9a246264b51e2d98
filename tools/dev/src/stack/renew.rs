//! A stack made new on the engines that run: no process, no data, other settings. For whoever needs many stacks, one after the other.

use anyhow::{Result, ensure};
use hyper::Method;

use super::{Options, Stack};
use crate::{console::Step, http, prove, services::SERVICES};

impl Stack {
    /// Kills every service, forgets what databases, broker and mailbox hold, and starts all of it again as `options` say.
    ///
    /// # Errors
    /// When something is not forgotten, or does not start.
    pub(crate) async fn renew(&mut self, options: Options) -> Result<()> {
        ensure!(options.name == self.options.name, "a stack keeps its name");
        for running in self.state.services.drain(..) {
            running.process.kill().await?;
        }
        self.state.save()?;
        self.started.clear();
        let step = Step::start("data", "forgetting it");
        self.engines.rabbitmq.forget().await?;
        for service in SERVICES {
            self.engines.postgres.empty(service.name).await?;
        }
        http::send(self.tools.mailbox, Method::DELETE, "/api/v1/messages", None, &[], None).await?.success()?;
        step.done("forgotten");
        self.import_topology().await?;
        if let Some(queue) = options.tap {
            prove::tap(&self.engines.rabbitmq, queue).await?;
        }
        self.options = options;
        self.start_services().await
    }
}
