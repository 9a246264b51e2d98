//! The users service's part in authentication, for tests of the services that verify its tokens (feature `testing`): a key, the address
//! where it is published, tokens signed with it, and tokens that must not open anything.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use uuid::Uuid;

use crate::auth::{AUDIENCE, Claims, ISSUER, Role};

/// RFC 8037, appendix A: as good a key pair as any for a test.
const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// RFC 8032, section 7.1, test 2: somebody else's key.
const FOREIGN: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
const KID: &str = "test-key";

/// The account of [`As::Operator`].
pub const OPERATOR: Uuid = Uuid::from_u128(1);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// A customer whose address is verified.
    Customer(Uuid),
    /// A customer whose address is not.
    Unverified(Uuid),
    /// The operator, whose account is [`OPERATOR`].
    Operator,
}

/// Publishes a key and signs with it, until it is dropped.
#[derive(Debug)]
pub struct Issuer {
    jwks_url: String,
    _serving: JoinSet<()>,
}

impl Issuer {
    /// Publishes the key on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let jwks_url = format!("http://{}/.well-known/jwks.json", listener.local_addr().expect("an address"));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener));
        Self { jwks_url, _serving: serving }
    }

    /// Where the key is.
    #[must_use]
    pub fn jwks_url(&self) -> &str {
        &self.jwks_url
    }

    /// A token that a service must accept, for ten minutes.
    #[must_use]
    pub fn token(&self, who: As) -> String {
        sign(&claims(who), SECRET)
    }

    /// One that ends after this time, rounded to whole seconds.
    #[must_use]
    pub fn token_for(&self, who: As, lifetime: Duration) -> String {
        let claims = claims(who);
        let exp = claims.iat + i64::try_from(lifetime.as_secs()).expect("a time in this age");
        sign(&Claims { exp, ..claims }, SECRET)
    }

    /// Tokens that it must not accept, with what is wrong with each.
    #[must_use]
    pub fn forged(&self, who: As) -> Vec<(&'static str, String)> {
        let honest = claims(who);
        let expired = Claims { iat: honest.iat - 7200, exp: honest.iat - 3600, ..honest.clone() };
        let elsewhere = Claims { aud: "somewhere-else".into(), ..honest.clone() };
        let signed = self.token(who);
        let body = signed.split('.').nth(1).expect("claims");
        vec![
            ("signed with another key", sign(&honest, FOREIGN)),
            ("expired", sign(&expired, SECRET)),
            ("for somebody else", sign(&elsewhere, SECRET)),
            // {"alg":"none","typ":"JWT"}
            ("not signed", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.")),
            ("no token at all", "open sesame".into()),
        ]
    }
}

fn claims(who: As) -> Claims {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    let now = i64::try_from(now).expect("a time in this age");
    let (sub, role, verified) = match who {
        As::Customer(user_id) => (user_id, Role::Customer, true),
        As::Unverified(user_id) => (user_id, Role::Customer, false),
        As::Operator => (OPERATOR, Role::Operator, true),
    };
    Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        sub,
        sid: Uuid::now_v7(),
        role,
        verified,
        iat: now,
        exp: now + 600,
        jti: Uuid::now_v7(),
    }
}

fn sign(claims: &Claims, secret: &str) -> String {
    // PKCS #8 (RFC 8410 §7): a fixed head, then the 32 bytes.
    let der = hex(&format!("302e020100300506032b657004220420{secret}"));
    let header = Header { kid: Some(KID.into()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&der)).expect("a token")
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

async fn serve(listener: TcpListener) {
    let keys = format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"{KID}","x":"{PUBLIC}"}}]}}"#
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{keys}",
        keys.len()
    );
    while let Ok((mut socket, _)) = listener.accept().await {
        // One request per connection, and its head fits into one read.
        let _ = socket.read(&mut [0; 4096]).await;
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{As, Issuer, OPERATOR};
    use crate::auth::{Role, Verifier};

    #[tokio::test]
    async fn its_tokens_are_accepted_and_the_forged_ones_are_not() {
        let issuer = Issuer::start().await;
        let verifier = Verifier::from_jwks_url(issuer.jwks_url());
        let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
        for (who, user_id, role, verified) in [
            (As::Customer(ada), ada, Role::Customer, true),
            (As::Unverified(bob), bob, Role::Customer, false),
            (As::Operator, OPERATOR, Role::Operator, true),
        ] {
            let identity = verifier.verify(&issuer.token(who)).await.unwrap();
            assert_eq!((identity.user_id, identity.role, identity.verified), (user_id, role, verified));
            for (wrong, token) in issuer.forged(who) {
                assert!(verifier.verify(&token).await.is_err(), "{wrong}");
            }
        }
    }
}
