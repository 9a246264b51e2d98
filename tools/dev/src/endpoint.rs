//! URLs of engines, taken apart and put together: just as much of RFC 3986 as `scheme://user:password@host:port/path?query`
//! needs. Not for anything that people browse to.

use std::{fmt, net::SocketAddr};

use anyhow::{Context, Result, ensure};

/// Where an engine is and as whom to talk to it. User and password are kept decoded. [`fmt::Display`] leaves the password out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Without its leading slash, as written: the name of a database, or a virtual host.
    pub(crate) path: String,
    /// Without its question mark, as written.
    pub(crate) query: String,
}

impl Endpoint {
    pub(crate) fn local(scheme: &str, port: u16, user: &str, password: &str, path: &str) -> Self {
        Self {
            scheme: scheme.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            path: path.to_owned(),
            query: String::new(),
        }
    }

    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").context("a URL starts with scheme://")?;
        let default_port = match scheme {
            "postgres" | "postgresql" => 5432,
            "amqp" => 5672,
            "amqps" => 5671,
            "http" => 80,
            "https" => 443,
            _ => anyhow::bail!("{scheme}:// is not a URL of an engine"),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().with_context(|| format!("{port} is not a port"))?)
            }
            _ => (address, default_port),
        };
        ensure!(!host.is_empty(), "the URL names no host");
        Ok(Self {
            scheme: scheme.to_owned(),
            user: decode(user)?,
            password: decode(password)?,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// The same place for somebody else.
    pub(crate) fn for_user(&self, user: &str, password: &str, path: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), path: path.to_owned(), ..self.clone() }
    }

    /// The same behind something that listens here.
    pub(crate) fn through(&self, address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), ..self.clone() }
    }

    /// The URL with everything in it. For environments of processes, never for a terminal.
    pub(crate) fn with_password(&self) -> String {
        self.with_ports(&[])
    }

    /// The same with more than one place: further ports of the same host, separated by commas.
    pub(crate) fn with_ports(&self, others: &[u16]) -> String {
        let others: String = others.iter().map(|port| format!(",{}:{port}", self.host)).collect();
        self.write(&format!("{}:{}@", encode(&self.user), encode(&self.password)), &others)
    }

    fn write(&self, credentials: &str, others: &str) -> String {
        let Self { scheme, host, port, path, query, .. } = self;
        let slash = if path.is_empty() { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{credentials}{host}:{port}{others}{slash}{path}{mark}{query}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(&format!("{}@", encode(&self.user)), ""))
    }
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

pub(crate) fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().context("% at the end")?, rest.next().context("% at the end")?];
            let digits = std::str::from_utf8(&digits).context("% not followed by two digits")?;
            bytes.push(u8::from_str_radix(digits, 16).context("% not followed by two hexadecimal digits")?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).context("not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_put_together() {
        let url = "postgres://ann:p%40ss%2Fword@[::1]:5433/shop?sslmode=require";
        let endpoint = Endpoint::parse(url).unwrap();
        assert_eq!((endpoint.user.as_str(), endpoint.password.as_str()), ("ann", "p@ss/word"));
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.path.as_str()), ("[::1]", 5433, "shop"));
        assert_eq!(endpoint.with_password(), url);
        assert_eq!(
            endpoint.to_string(),
            "postgres://ann@[::1]:5433/shop?sslmode=require",
            "no password in what is shown"
        );
        assert_eq!(
            endpoint.for_user("users", "x", "users").with_password(),
            "postgres://users:x@[::1]:5433/users?sslmode=require"
        );
        let cluster = Endpoint::parse("amqp://ann:pw@mq:1/shop").unwrap().with_ports(&[2, 3]);
        assert_eq!(cluster, "amqp://ann:pw@mq:1,mq:2,mq:3/shop");
    }

    #[test]
    fn ports_have_their_usual_defaults_and_nonsense_is_refused() {
        assert_eq!(Endpoint::parse("amqp://localhost/%2f").unwrap().port, 5672);
        assert_eq!(Endpoint::parse("http://[::1]").unwrap().port, 80);
        for nonsense in ["localhost", "ftp://x", "amqp://:5672", "amqp://x:port", "amqp://%zz@x"] {
            Endpoint::parse(nonsense).expect_err(nonsense);
        }
    }
}
