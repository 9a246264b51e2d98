//! A proxy in front of RabbitMQ that loses the broker's confirms when a test wants it: [`wire`]'s, with an address to connect to. What else
//! can be lost, [`wire`] knows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::{Aim, Fault, Injection, Proxy};

/// Listens on a port of its own and passes on what it is not told to swallow.
pub struct AmqpProxy {
    url: String,
    proxy: Proxy,
    swallowing: Mutex<Swallowing>,
}

#[derive(Default)]
struct Swallowing {
    now: Option<Injection>,
    before: u64,
}

impl AmqpProxy {
    /// A proxy in front of the broker of this address.
    pub async fn start(url: &str) -> Self {
        let (scheme, rest) = url.split_once("//").expect("an AMQP address");
        let (user, rest) = rest.split_once('@').expect("a user in the address");
        let (broker, vhost) = rest.split_once('/').expect("a virtual host in the address");
        let proxy = Proxy::amqp(broker).await.expect("a free port");
        let url = format!("{scheme}//{user}@{}/{vhost}", proxy.address());
        Self { url, proxy, swallowing: Mutex::default() }
    }

    /// The address to connect to instead.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on the broker's confirms are lost; everything else passes.
    pub fn swallow_confirms(&self) {
        let all = Fault::LoseConfirms { skip: 0, times: u64::MAX };
        let now = self.proxy.inject(&Aim::everybody(), all);
        self.heal();
        self.swallowing().now = Some(now);
    }

    /// Everything passes again. What was swallowed stays lost.
    pub fn heal(&self) {
        let mut swallowing = self.swallowing();
        swallowing.before += swallowing.now.take().map_or(0, Injection::end);
    }

    /// How many confirms were lost: the evidence that the fault bit.
    pub fn swallowed(&self) -> u64 {
        let swallowing = self.swallowing();
        swallowing.before + swallowing.now.as_ref().map_or(0, Injection::count)
    }

    fn swallowing(&self) -> MutexGuard<'_, Swallowing> {
        self.swallowing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
