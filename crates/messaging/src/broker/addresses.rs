//! Where a broker listens: one address, or those of all nodes of a cluster in one URL, `amqp://user:password@a:5672,b:5672/vhost`, as
//! PostgreSQL writes it too. What is said about a URL that is wrong never holds a part of it: a password may be anywhere in it.

use std::sync::Arc;

use lapin::uri::AMQPUri;

/// What is wrong with the URL of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// It is not AMQP.
    #[error("the broker's URL does not begin with amqp:// or amqps://")]
    Scheme,
    /// Between two commas, or before the first or after the last one, is nothing.
    #[error(
        "address {0} of the broker's URL names no host: write amqp://user:password@host:5672,other-host:5672/vhost"
    )]
    Host(usize),
    /// The client would take it for localhost (amq-protocol-uri 10).
    #[error("address {0} of the broker's URL is an IPv6 address: write the name of the host")]
    Literal(usize),
    /// What follows the colon is not a port.
    #[error("address {0} of the broker's URL has a port that is not a number from 1 to 65535")]
    Port(usize),
    /// Anything else; mostly a character that stands for something else in a URL.
    #[error(
        "the broker's URL cannot be read: percent-encode what is neither letter nor digit in user, password and virtual host"
    )]
    Encoding,
}

/// Where one node of the broker listens, as spans and logs name it.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// One node of the broker, and the whole URL for it alone.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) address: Arc<Address>,
    pub(super) url: String,
}

/// All nodes of one broker; at least one.
#[derive(Clone)]
pub(super) struct Addresses {
    pub(super) nodes: Vec<Node>,
    pub(super) vhost: String,
}

impl Addresses {
    pub(super) fn parse(url: &str) -> Result<Self, BrokerUrlError> {
        let mut nodes = Vec::new();
        let mut vhost = String::new();
        for (url, number) in one_by_one(url).ok_or(BrokerUrlError::Scheme)?.into_iter().zip(1..) {
            if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
                return Err(BrokerUrlError::Scheme);
            }
            look_at_host(&url, number)?;
            let uri: AMQPUri = url.parse().map_err(|_| BrokerUrlError::Encoding)?;
            let address = Arc::new(Address { host: uri.authority.host, port: uri.authority.port });
            vhost = if uri.vhost.is_empty() { "/".to_owned() } else { uri.vhost };
            nodes.push(Node { address, url });
        }
        Ok(Self { nodes, vhost })
    }
}

/// Takes a URL with several hosts apart into one for each; `None` of what is no URL.
pub(crate) fn one_by_one(url: &str) -> Option<Vec<String>> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, hosts) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
    Some(hosts.split(',').map(|host| format!("{scheme}://{user}{}{path}", host.trim())).collect())
}

fn look_at_host(url: &str, number: usize) -> Result<(), BrokerUrlError> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.starts_with('[') {
        return Err(BrokerUrlError::Literal(number));
    }
    let (host, port) = host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
    if host.is_empty() {
        return Err(BrokerUrlError::Host(number));
    }
    match port.map(str::parse::<u16>) {
        Some(Err(_) | Ok(0)) => Err(BrokerUrlError::Port(number)),
        Some(Ok(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<String> {
        let nodes = Addresses::parse(url).unwrap().nodes;
        nodes.iter().map(|node| format!("{}:{}", node.address.host, node.address.port)).collect()
    }

    #[test]
    fn a_url_names_one_node_or_several() {
        assert_eq!(hosts("amqp://ann:p%2Cw@one/shop"), ["one:5672"]);
        assert_eq!(
            hosts("amqp://ann:p%2Cw@one:1, two:2,127.0.0.1:3/shop?frame_max=9000"),
            ["one:1", "two:2", "127.0.0.1:3"]
        );
        let all = Addresses::parse("amqps://ann:p%2Cw@one:1,two:2/shop?frame_max=9000").unwrap();
        assert_eq!(all.nodes[1].url, "amqps://ann:p%2Cw@two:2/shop?frame_max=9000");
    }

    #[test]
    fn the_virtual_host_is_what_the_url_says() {
        for (url, expected) in [
            ("amqp://u:p@mq", "/"),
            ("amqp://u:p@mq,mr/", "/"),
            ("amqp://u:p@mq/%2f", "/"),
            ("amqp://u:p@mq,mr:5672/shop", "shop"),
            ("amqp://u:p@mq/a%20b?heartbeat=10", "a b"),
        ] {
            assert_eq!(Addresses::parse(url).unwrap().vhost, expected, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, expected) in [
            ("", BrokerUrlError::Scheme),
            ("http://u:secret@mq", BrokerUrlError::Scheme),
            ("u:secret@mq", BrokerUrlError::Scheme),
            ("amqp://u:secret@", BrokerUrlError::Host(1)),
            ("amqp://u:secret@one,,two/v", BrokerUrlError::Host(2)),
            ("amqp://u:secret@one,two,/v", BrokerUrlError::Host(3)),
            ("amqp://u:secret@one,[::1]:2/v", BrokerUrlError::Literal(2)),
            ("amqp://u:secret@one:1,two:amqp/v", BrokerUrlError::Port(2)),
            ("amqp://u:secret@one:0/v", BrokerUrlError::Port(1)),
            ("amqp://u:secret@one:65536/v", BrokerUrlError::Port(1)),
            ("amqp://u:secret#1@one/v", BrokerUrlError::Encoding),
        ] {
            let Err(error) = Addresses::parse(url) else { panic!("{url} is taken") };
            assert_eq!(error, expected, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
