//! The proxies between real clients and real engines: what is lost is lost, what is not passes as it came, and the count says which.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod amqp;
mod postgres;

/// `host:port` of an engine's address, and the same address with another one.
fn through(url: &str, proxy: impl FnOnce(&str) -> String) -> String {
    let (before, rest) = url.rsplit_once('@').expect("a user in the address");
    let (engine, path) = rest.split_once('/').expect("a path in the address");
    format!("{before}@{}/{path}", proxy(engine))
}
