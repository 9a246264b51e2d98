//! The users service's part in authentication: a key, tokens signed with it, and the address where the key is published.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use uuid::Uuid;
use web::auth::{AUDIENCE, Claims, ISSUER, Role};

/// RFC 8037, appendix A: as good a key pair as any for a test.
const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// RFC 8032, section 7.1, test 2: somebody else's key.
const FOREIGN: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
const KID: &str = "test-key";

/// Who asks.
#[derive(Clone, Copy)]
pub enum As {
    Customer(Uuid),
    Operator,
}

/// A token that the service must accept.
pub fn token(who: As) -> String {
    sign(&claims(who), SECRET)
}

/// Tokens that it must not accept, with what is wrong with each.
pub fn forged(who: As) -> Vec<(&'static str, String)> {
    let honest = claims(who);
    let expired = Claims { iat: honest.iat - 7200, exp: honest.iat - 3600, ..honest.clone() };
    let elsewhere = Claims { aud: "somewhere-else".into(), ..honest.clone() };
    let unsigned = token(who);
    let body = unsigned.split('.').nth(1).expect("claims");
    vec![
        ("signed with another key", sign(&honest, FOREIGN)),
        ("expired", sign(&expired, SECRET)),
        ("for somebody else", sign(&elsewhere, SECRET)),
        // {"alg":"none","typ":"JWT"}
        ("not signed", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.")),
        ("no token at all", "open sesame".into()),
    ]
}

fn claims(who: As) -> Claims {
    let now = chrono::Utc::now().timestamp();
    let (sub, role) = match who {
        As::Customer(user_id) => (user_id, Role::Customer),
        As::Operator => (Uuid::from_u128(1), Role::Operator),
    };
    Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        sub,
        sid: Uuid::now_v7(),
        role,
        verified: true,
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

/// Publishes the key; returns its address. Lives as long as `running`.
pub async fn publish(running: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/.well-known/jwks.json", listener.local_addr().expect("an address"));
    let keys = format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"{KID}","x":"{PUBLIC}"}}]}}"#
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{keys}",
        keys.len()
    );
    running.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // One request per connection, and its head fits into one read.
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    url
}
