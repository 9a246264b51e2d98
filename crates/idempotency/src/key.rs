//! The header `Idempotency-Key`.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use web::Problem;

const HEADER: &str = "idempotency-key";
const MAX_BYTES: usize = 255;

/// What the client calls this request: 1 to 255 visible ASCII characters. As an argument of a handler it refuses requests without one, with 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(request: &HttpRequest) -> Result<Self, Problem> {
        let mut sent = request.headers().get_all(HEADER);
        let (Some(key), None) = (sent.next(), sent.next()) else {
            return Err(Problem::bad_request(
                "Send one header Idempotency-Key with a name for this request that you never used before, such as a random \
                 UUID, and the same one when you repeat the request.",
            ));
        };
        let valid = (1..=MAX_BYTES).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
        let key = key.to_str().ok().filter(|_| valid).ok_or_else(|| {
            Problem::bad_request(format!("Idempotency-Key must be 1 to {MAX_BYTES} visible ASCII characters."))
        })?;
        Ok(Self(key.to_owned()))
    }
}

impl FromRequest for Key {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::parse(request))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parse(keys: &[&str]) -> Result<Key, Problem> {
        let request = keys.iter().fold(TestRequest::default(), |request, key| request.append_header((HEADER, *key)));
        Key::parse(&request.to_http_request())
    }

    #[test]
    fn one_name_of_visible_characters_is_a_key() {
        assert_eq!(parse(&["7c1f-\"a\"!"]).unwrap().as_str(), "7c1f-\"a\"!");
        assert!(parse(&[&"k".repeat(255)]).is_ok());
        for wrong in [&[][..], &[""], &["a b"], &["\u{e9}"], &["a", "b"], &[&"k".repeat(256)]] {
            assert_eq!(parse(wrong).unwrap_err().status(), 400, "{wrong:?}");
        }
    }
}
