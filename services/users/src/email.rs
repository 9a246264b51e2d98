//! E-mail addresses: what counts as one, and how two are compared. It does not prove that an address exists: only a mail that is answered does.

use std::fmt;

use email_address::{EmailAddress, Options};
use sha2::{Digest as _, Sha256};

/// The longest address that SMTP can carry (RFC 5321 §4.5.3.1.3 with RFC 3696 erratum 1690).
const MAX_BYTES: usize = 254;

/// A valid address, trimmed and with its domain in lower case. The local part stays as its owner wrote it, because only the receiving
/// host may interpret it; still, two addresses that differ in case only are one account.
///
/// `Debug` shows nothing of it: addresses do not belong in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Reads an address as somebody typed it. The error is a sentence for that person.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("Write your e-mail address.");
        }
        if text.len() > MAX_BYTES {
            return Err("An e-mail address has at most 254 characters.");
        }
        if !text.is_ascii() {
            return Err("Only ASCII addresses can be used; write an internationalised domain in its xn-- form.");
        }
        let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
        let address = EmailAddress::parse_with_options(text, options)
            .ok()
            .filter(|address| !address.local_part().starts_with('"'))
            .ok_or("This is not an e-mail address; it should look like name@example.org.")?;
        Ok(Self(format!("{}@{}", address.local_part(), address.domain().to_ascii_lowercase())))
    }

    /// The address, to store it or to send to it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    pub fn local_part(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }

    /// SHA-256 of the address in lower case: tells addresses apart without showing them.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.to_ascii_lowercase()).into()
    }
}

/// An address from the table: it was valid when it was stored.
impl From<String> for Email {
    fn from(stored: String) -> Self {
        Self(stored)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::Email;

    #[test]
    fn an_address_is_trimmed_and_its_domain_is_lower_cased() {
        assert_eq!(Email::parse("  Ada.Lovelace+shop@Example.ORG ").unwrap().as_str(), "Ada.Lovelace+shop@example.org");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let too_long = format!("{}@example.org", "a".repeat(250));
        for text in [
            "",
            "   ",
            "ada",
            "ada@",
            "@example.org",
            "ada@example",
            "ada@@example.org",
            "ada@exa mple.org",
            "ada@example..org",
            "ada@-example.org",
            "ada@[127.0.0.1]",
            "Ada <ada@example.org>",
            "\"ada lovelace\"@example.org",
            "ada@example.org\r\nBcc: eve@example.org",
            "ada\0@example.org",
            "ad\u{e4}@example.org",
            &too_long,
        ] {
            assert!(Email::parse(text).is_err(), "{text:?} was taken for an address");
        }
    }

    #[test]
    fn capitals_make_no_other_account() {
        assert_eq!(
            Email::parse("Ada@example.org").unwrap().digest(),
            Email::parse("ada@EXAMPLE.org").unwrap().digest()
        );
    }

    #[test]
    fn an_address_is_not_shown_by_debug() {
        assert!(!format!("{:?}", Email::parse("ada@example.org").unwrap()).contains("ada"));
    }
}
