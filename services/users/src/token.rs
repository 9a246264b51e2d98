//! Secrets that are handed out once and recognised by their hash: the tokens in mailed links, and refresh tokens. What they stand for is
//! in `one_time_token.rs` and `session.rs`.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// 256 random bits, written in base64url (43 characters).
#[derive(Debug, Clone)]
pub struct Token {
    text: SecretString,
    hash: TokenHash,
}

/// What is stored of a token. Nobody can get from it to the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl Token {
    /// A new one.
    pub fn random() -> Self {
        let bytes: [u8; 32] = rand::rng().random();
        Self { text: BASE64_URL_SAFE_NO_PAD.encode(bytes).into(), hash: TokenHash(Sha256::digest(bytes).into()) }
    }

    /// The token itself, for its owner only.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What to store.
    pub fn hash(&self) -> &TokenHash {
        &self.hash
    }
}

impl TokenHash {
    /// The hash of a token that somebody presents; none if it does not even look like one.
    pub fn of_presented(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32)?;
        Some(Self(Sha256::digest(bytes).into()))
    }

    /// The bytes of the column.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, TokenHash};

    #[test]
    fn a_token_is_recognised_by_its_hash() {
        let token = Token::random();
        assert_eq!(token.expose().len(), 43);
        assert_eq!(TokenHash::of_presented(token.expose()), Some(*token.hash()));
        assert_ne!(TokenHash::of_presented(Token::random().expose()), Some(*token.hash()));
    }

    #[test]
    fn what_is_no_token_has_no_hash() {
        for text in ["", "abc", "not base64url!", &"A".repeat(42), &"A".repeat(44)] {
            assert_eq!(TokenHash::of_presented(text), None);
        }
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        let token = Token::random();
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}
