//! Which mail server to talk to, and how: what `SMTP_URL` says. It opens no connection.

use std::{fmt, net::IpAddr};

use lettre::transport::smtp::{authentication::Credentials, client::TlsParameters, extension::ClientId};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::Url;

/// A mail server. Its `Debug` shows no credentials.
pub(crate) struct SmtpServer {
    host: String,
    port: u16,
    hello: ClientId,
    tls: Tls,
    credentials: Option<Credentials>,
}

/// When the connection becomes a private one.
enum Tls {
    Never,
    /// Before the first word (`smtps`).
    Implicit(TlsParameters),
    /// With STARTTLS, or not at all (`?tls=required`).
    Required(TlsParameters),
    /// With STARTTLS if the server offers it (`?tls=opportunistic`): a man in the middle can prevent it.
    Opportunistic(TlsParameters),
}

/// What is wrong with `SMTP_URL`. Never repeats the URL, which may hold a password.
#[derive(Debug, Error)]
pub enum SmtpUrlError {
    /// Not a URL.
    #[error("SMTP_URL is not a URL: {0}")]
    Url(#[from] url::ParseError),
    /// No host.
    #[error("SMTP_URL names no host")]
    Host,
    /// A scheme or an option that does not exist.
    #[error("SMTP_URL must be smtp://host, smtp://host?tls=required, smtp://host?tls=opportunistic or smtps://host")]
    Scheme,
    /// User and password are not UTF-8 after percent-decoding.
    #[error("the user or password in SMTP_URL is not valid UTF-8 once percent-decoded")]
    Credentials,
    /// A password that everybody on the way could read.
    #[error("SMTP_URL would send its password unencrypted; use smtps:// or ?tls=required")]
    Cleartext,
    /// The TLS set-up failed.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] lettre::transport::smtp::Error),
}

impl SmtpServer {
    /// Reads `smtp[s]://[user:password@]host[:port][/ehlo-name][?tls=required|opportunistic]`.
    pub(crate) fn parse(url: &SecretString) -> Result<Self, SmtpUrlError> {
        let url = Url::parse(url.expose_secret())?;
        let host = url.host_str().ok_or(SmtpUrlError::Host)?.trim_matches(['[', ']']).to_owned();
        let mut options = url.query_pairs();
        let tls_option = match (options.next(), options.next()) {
            (None, _) => None,
            (Some((key, value)), None) if key == "tls" => Some(value.into_owned()),
            _ => return Err(SmtpUrlError::Scheme),
        };
        let parameters = || TlsParameters::new(host.clone());
        let (tls, default_port) = match (url.scheme(), tls_option.as_deref()) {
            ("smtp", None) => (Tls::Never, 25),
            ("smtp", Some("required")) => (Tls::Required(parameters()?), 587),
            ("smtp", Some("opportunistic")) => (Tls::Opportunistic(parameters()?), 587),
            ("smtps", None) => (Tls::Implicit(parameters()?), 465),
            _ => return Err(SmtpUrlError::Scheme),
        };
        let credentials = credentials(&url)?;
        if credentials.is_some() && matches!(tls, Tls::Never | Tls::Opportunistic(_)) && !is_loopback(&host) {
            return Err(SmtpUrlError::Cleartext);
        }
        let hello = match url.path().trim_matches('/') {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        Ok(Self { port: url.port().unwrap_or(default_port), host, hello, tls, credentials })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn hello(&self) -> &ClientId {
        &self.hello
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Set if the first byte is already encrypted.
    pub(crate) fn implicit_tls(&self) -> Option<TlsParameters> {
        match &self.tls {
            Tls::Implicit(parameters) => Some(parameters.clone()),
            Tls::Never | Tls::Required(_) | Tls::Opportunistic(_) => None,
        }
    }

    /// Set if the connection has to be, or can be, upgraded after the greeting.
    pub(crate) fn starttls(&self, offered: bool) -> Option<TlsParameters> {
        match &self.tls {
            Tls::Required(parameters) => Some(parameters.clone()),
            Tls::Opportunistic(parameters) if offered => Some(parameters.clone()),
            Tls::Never | Tls::Implicit(_) | Tls::Opportunistic(_) => None,
        }
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpServer({}:{})", self.host, self.port)
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, SmtpUrlError> {
    let Some(password) = url.password() else {
        return Ok(None);
    };
    let decoded = |part| percent_decode_str(part).decode_utf8().map_err(|_| SmtpUrlError::Credentials);
    Ok(Some(Credentials::new(decoded(url.username())?.into_owned(), decoded(password)?.into_owned())))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{SmtpServer, SmtpUrlError, Tls};

    fn parse(url: &str) -> Result<SmtpServer, SmtpUrlError> {
        SmtpServer::parse(&url.to_owned().into())
    }

    #[test]
    fn each_way_to_connect_has_its_port_and_its_privacy() {
        let plain = parse("smtp://mail.example").unwrap();
        assert!(plain.port() == 25 && matches!(plain.tls, Tls::Never) && plain.starttls(true).is_none());
        let required = parse("smtp://mail.example?tls=required").unwrap();
        assert!(required.port() == 587 && required.starttls(false).is_some() && required.implicit_tls().is_none());
        let perhaps = parse("smtp://mail.example:2525?tls=opportunistic").unwrap();
        assert!(perhaps.port() == 2525 && perhaps.starttls(true).is_some() && perhaps.starttls(false).is_none());
        let implicit = parse("smtps://mail.example/our-name").unwrap();
        assert!(implicit.port() == 465 && implicit.implicit_tls().is_some() && implicit.starttls(true).is_none());
        assert_eq!(implicit.hello().to_string(), "our-name");
        assert_eq!(parse("smtp://[::1]:1025").unwrap().host(), "::1");
    }

    #[test]
    fn a_password_is_never_sent_in_the_clear() {
        assert!(matches!(parse("smtp://ada:secret@mail.example"), Err(SmtpUrlError::Cleartext)));
        assert!(matches!(parse("smtp://ada:secret@mail.example?tls=opportunistic"), Err(SmtpUrlError::Cleartext)));
        assert!(parse("smtps://ada:se%40cret@mail.example").unwrap().credentials().is_some());
        assert!(parse("smtp://ada:secret@127.0.0.1:1025").unwrap().credentials().is_some());
    }

    #[test]
    fn a_url_that_is_not_understood_is_refused_without_being_repeated() {
        for url in [
            "http://ada:secret@mail.example",
            "smtp://ada:secret@mail.example?tsl=required",
            "smtps://:secret@",
            "secret",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(!format!("{:?}", parse("smtps://ada:secret@mail.example").unwrap()).contains("secret"));
    }
}
