//! The services of the shop: which there are, and what their environment is. Their processes are in [`crate::replicas`].

use anyhow::Result;

use crate::{
    engines::{Engines, Proxies},
    state::{Ports, State},
};

pub(crate) const OPERATOR_EMAIL: &str = "operator@shop.test";
/// Where the shop writes to its own people.
pub(crate) const OPERATIONS_EMAIL: &str = "operations@shop.test";

/// A service of the shop. Its binary, database role and broker user have its name.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// Where its first replica listens in the default stack.
    pub(crate) port: u16,
    /// What it needs beyond what every service has.
    settings: fn(&Wiring<'_>) -> Vec<(&'static str, String)>,
}

pub(crate) const USERS: Service = Service { name: "users", port: 8081, settings: users };
pub(crate) const ORDERS: Service = Service { name: "orders", port: 8082, settings: orders };
pub(crate) const INVENTORY: Service = Service { name: "inventory", port: 8083, settings: inventory };
pub(crate) const PAYMENTS: Service = Service { name: "payments", port: 8084, settings: payments };
pub(crate) const NOTIFICATIONS: Service = Service { name: "notifications", port: 8085, settings: notifications };
pub(crate) const ACCESS_LOG: Service = Service { name: "access-log", port: 8086, settings: access_log };

/// In the order in which they are started, which is for people only: any other is as good.
pub(crate) const SERVICES: [&Service; 6] = [&USERS, &INVENTORY, &PAYMENTS, &ORDERS, &NOTIFICATIONS, &ACCESS_LOG];

/// A setting that one service gets instead of the usual one, or in addition.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Ports of the tools that the services talk to, and that people look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) smtp: u16,
    pub(crate) mailbox: u16,
    pub(crate) otlp: u16,
    pub(crate) traces: u16,
}

/// What the environment of a service is made of.
pub(crate) struct Wiring<'a> {
    pub(crate) engines: &'a Engines,
    /// What the services talk to instead of the engines.
    pub(crate) proxies: Option<&'a Proxies>,
    pub(crate) tools: Tools,
    pub(crate) ports: Ports,
    pub(crate) operator_password: String,
    pub(crate) settings: &'a [Setting],
}

/// Everybody who registers does so from here.
fn users(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("OPERATOR_EMAIL", OPERATOR_EMAIL.to_owned()),
        ("OPERATOR_PASSWORD", wiring.operator_password.clone()),
        ("MAILS_PER_NETWORK", "0".to_owned()),
    ]
}

/// Short enough to be watched, long enough for a machine that is busy.
fn orders(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("JWKS_URL", jwks_url(wiring)),
        ("STOCK_DEADLINE_SECONDS", "60".to_owned()),
        ("PAYMENT_DEADLINE_SECONDS", "30".to_owned()),
        ("COMMIT_DEADLINE_SECONDS", "60".to_owned()),
        // Few customers order as much as many.
        ("MAX_OPEN_ORDERS_PER_CUSTOMER", "0".to_owned()),
        ("MAX_ORDERS_PER_CUSTOMER_AND_HOUR", "0".to_owned()),
    ]
}

fn inventory(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![("JWKS_URL", jwks_url(wiring)), ("RESERVATION_SECONDS", "180".to_owned())]
}

/// `pm_slow` answers when orders wait no longer, so that a late payment can be watched.
fn payments(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![("JWKS_URL", jwks_url(wiring)), ("PROVIDER_SLOW_SECONDS", "35".to_owned())]
}

fn notifications(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("SMTP_URL", format!("smtp://127.0.0.1:{}", wiring.tools.smtp)),
        ("MAIL_FROM", "shop@shop.test".to_owned()),
        ("SHOP_NAME", "Postrider Shop".to_owned()),
        ("OPERATIONS_EMAIL", OPERATIONS_EMAIL.to_owned()),
        // The mailbox answers at once: a letter in the hand of a process that was killed need not wait for long.
        ("SMTP_TIMEOUT_SECONDS", "10".to_owned()),
        ("SMTP_ANSWER_TIMEOUT_SECONDS", "5".to_owned()),
        ("USERS_URL", format!("http://localhost:{}", wiring.ports.service(&USERS, 0))),
        ("JWKS_URL", jwks_url(wiring)),
    ]
}

fn access_log(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![("JWKS_URL", jwks_url(wiring))]
}

fn jwks_url(wiring: &Wiring<'_>) -> String {
    format!("http://127.0.0.1:{}/.well-known/jwks.json", wiring.ports.service(&USERS, 0))
}

impl Service {
    /// The whole environment of one replica, apart from what it inherits.
    pub(crate) fn environment(
        &self,
        state: &mut State,
        wiring: &Wiring<'_>,
        replica: u16,
    ) -> Result<Vec<(String, String)>> {
        let credentials = state.credentials(self.name)?;
        let mut database = wiring.engines.postgres.url(self.name, &credentials.database_password);
        let (rabbitmq, password) = (&wiring.engines.rabbitmq, &credentials.broker_password);
        let (mut amqp, management) = rabbitmq.urls(self.name, password);
        if let Some(proxies) = wiring.proxies {
            database = database.through(proxies.postgres.address());
            // Between a service and three brokers there is nothing.
            amqp = rabbitmq.url_through(self.name, password, proxies.amqp.address()).unwrap_or(amqp);
        }
        let usual = [
            ("DATABASE_URL", database.with_password()),
            ("AMQP_URL", amqp),
            ("RABBITMQ_MANAGEMENT_URL", management),
            ("LISTEN", format!("127.0.0.1:{}", wiring.ports.service(self, replica))),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", wiring.tools.otlp)),
            ("TRACES_SQL", "true".to_owned()),
            ("LOG_FORMAT", "human".to_owned()),
        ];
        let own: Vec<&Setting> = wiring.settings.iter().filter(|setting| setting.service == self.name).collect();
        let usual = usual.into_iter().chain((self.settings)(wiring));
        let mut environment: Vec<(String, String)> = usual
            .filter(|(name, _)| own.iter().all(|setting| setting.name != *name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        environment.extend(own.into_iter().map(|setting| (setting.name.clone(), setting.value.clone())));
        Ok(environment)
    }
}
