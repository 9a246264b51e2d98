//! The Ed25519 keys that sign access tokens: made once for all replicas, published, and replaced before they grow old. It decides nothing
//! about who gets a token.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use messaging::Outbox;
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretSlice};
use serde::Serialize;
use sqlx::PgConnection;
use tokio::sync::watch;
use tracing::info;
use web::auth::Verifier;

/// An access token works for this long, whatever happens to its session meanwhile, except in this service, which looks.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A new key is published for this long before it signs: longer than anybody caches the published keys.
const NOTICE: Duration = Duration::from_secs(3600);

/// An old key stays published for this long after its successor has begun to sign: its last token has expired by then, on any clock.
const OVERLAP: Duration = Duration::from_secs(2 * TOKEN_LIFETIME.as_secs());

/// PKCS#8 of an Ed25519 key is this and the 32 bytes of its seed (RFC 8410 §7).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The keys could not be read or written.
    #[error("signing keys: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored key is damaged, or signing failed.
    #[error("signing keys: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// Another process has removed every key, and this one has not made one yet.
    #[error("there is no signing key")]
    Missing,
}

/// The keys as they were at the last look. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct SigningKeys {
    outbox: Outbox,
    rotate_after: Duration,
    ring: Arc<watch::Sender<Ring>>,
}

struct Ring {
    kid: String,
    signing: EncodingKey,
    published: JwkSet,
    verifier: Verifier,
}

/// What has to be done about the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// There is nothing to sign with.
    Key,
    /// The newest key is old enough to be followed.
    Successor,
}

impl SigningKeys {
    /// Loads the keys, and makes the first if there is none.
    pub async fn open(outbox: Outbox, rotate_after: Duration) -> Result<Self, KeyError> {
        make_if_due(&outbox, rotate_after).await?;
        let ring = load(&outbox).await?;
        Ok(Self { outbox, rotate_after, ring: Arc::new(watch::Sender::new(ring)) })
    }

    /// Looks again: replaces a key that has grown old, and takes over what other replicas did.
    pub async fn renew(&self) -> Result<(), KeyError> {
        make_if_due(&self.outbox, self.rotate_after).await?;
        self.ring.send_replace(load(&self.outbox).await?);
        Ok(())
    }

    /// Signs the claims of an access token.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let ring = self.ring.borrow();
        let header = Header { kid: Some(ring.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        Ok(jsonwebtoken::encode(&header, claims, &ring.signing)?)
    }

    /// The public keys of every token that may still be valid, and of the next ones.
    pub fn published(&self) -> JwkSet {
        self.ring.borrow().published.clone()
    }

    /// Verifies tokens with these keys.
    pub fn verifier(&self) -> Verifier {
        self.ring.borrow().verifier.clone()
    }
}

async fn load(outbox: &Outbox) -> Result<Ring, KeyError> {
    let rows = sqlx::query!(
        r#"select kid, private_key, active_from <= now() and (not_after is null or not_after > now() + make_interval(secs => $1)) as "signs!"
           from signing_keys where not_after is null or not_after > now() order by active_from desc"#,
        TOKEN_LIFETIME.as_secs_f64()
    )
    .fetch_all(outbox.pool())
    .await?;
    let signing = rows.iter().find(|row| row.signs).ok_or(KeyError::Missing)?;
    let (kid, key) = (signing.kid.clone(), EncodingKey::from_ed_der(&signing.private_key));
    let keys =
        rows.iter().map(|row| public_key(&EncodingKey::from_ed_der(&row.private_key))).collect::<Result<_, _>>()?;
    let published = JwkSet { keys };
    Ok(Ring { kid, signing: key, verifier: Verifier::from_keys(&published), published })
}

/// The public half, named by its own thumbprint.
fn public_key(key: &EncodingKey) -> Result<Jwk, jsonwebtoken::errors::Error> {
    let mut public = Jwk::from_encoding_key(key, Algorithm::EdDSA)?;
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256)?);
    Ok(public)
}

async fn make_if_due(outbox: &Outbox, rotate_after: Duration) -> Result<(), KeyError> {
    if due(&mut *outbox.pool().acquire().await?, rotate_after).await? == Due::Nothing {
        return Ok(());
    }
    let mut tx = outbox.begin().await?;
    // Replicas that start together look at the same moment; the second one must see what the first has made.
    sqlx::query!("lock table signing_keys in share row exclusive mode").execute(&mut *tx).await?;
    let notice = match due(&mut tx, rotate_after).await? {
        Due::Nothing => return Ok(()),
        Due::Key => Duration::ZERO,
        Due::Successor => NOTICE,
    };
    let kid = make(&mut tx, notice).await?;
    tx.commit().await?;
    info!(kid, signs_in_secs = notice.as_secs(), "made a signing key");
    Ok(())
}

async fn due(conn: &mut PgConnection, rotate_after: Duration) -> Result<Due, sqlx::Error> {
    // Not `now()`, when the transaction began: a key that was made while it waited for the lock would be one of the future.
    let keys = sqlx::query!(
        r#"select
             coalesce(bool_or(active_from <= statement_timestamp()
                 and (not_after is null or not_after > statement_timestamp() + make_interval(secs => $1))), false) as "usable!",
             coalesce(bool_or(not_after is null and created_at > statement_timestamp() - make_interval(secs => $2)), false)
                 as "young!"
           from signing_keys"#,
        TOKEN_LIFETIME.as_secs_f64(),
        rotate_after.as_secs_f64(),
    )
    .fetch_one(conn)
    .await?;
    Ok(match (keys.usable, keys.young) {
        (false, _) => Due::Key,
        (true, false) => Due::Successor,
        (true, true) => Due::Nothing,
    })
}

/// Makes a key that signs after the notice, and lets the older ones end some time after that.
async fn make(conn: &mut PgConnection, notice: Duration) -> Result<String, KeyError> {
    let seed: [u8; 32] = rand::rng().random();
    let pkcs8: SecretSlice<u8> = [PKCS8_HEAD.as_slice(), &seed].concat().into();
    let public = public_key(&EncodingKey::from_ed_der(pkcs8.expose_secret()))?;
    let kid = public.common.key_id.unwrap_or_default();
    sqlx::query!(
        "update signing_keys set not_after = now() + make_interval(secs => $1) where not_after is null",
        (notice + OVERLAP).as_secs_f64()
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into signing_keys (kid, private_key, active_from) values ($1, $2, now() + make_interval(secs => $3))",
        kid,
        pkcs8.expose_secret(),
        notice.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(kid)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
    use serde_json::{Value, json};

    use super::{PKCS8_HEAD, public_key};

    /// RFC 8037 appendix A: the seed, its public key, and the thumbprint of that.
    #[test]
    fn a_key_has_the_public_half_and_the_thumbprint_of_rfc_8037() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seed: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap()).collect();
        let key = EncodingKey::from_ed_der(&[PKCS8_HEAD.as_slice(), &seed].concat());
        let public = serde_json::to_value(public_key(&key).unwrap()).unwrap();
        assert_eq!(
            public,
            json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            })
        );
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &json!({ "sub": "ada" }), &key).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let decoding = DecodingKey::from_jwk(&public_key(&key).unwrap()).unwrap();
        assert_eq!(jsonwebtoken::decode::<Value>(&token, &decoding, &validation).unwrap().claims["sub"], "ada");
    }
}
