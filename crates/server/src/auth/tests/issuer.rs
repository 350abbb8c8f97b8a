//! Whoever signs tokens, honest or not.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Map, Value, json};

use super::SECRET;

/// A key that signs by one algorithm.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    key: EncodingKey,
    /// Of the public key; empty for secrets.
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    /// Without a `kid`.
    jwk: Value,
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn seconds() -> u64 {
    crate::auth::now() / 1000
}

impl Signer {
    pub(super) fn secret(secret: &[u8]) -> Self {
        let key = EncodingKey::from_secret(secret);
        let (pem, der, jwk) = Default::default();
        Self { algorithm: Algorithm::HS256, key, pem, der, jwk }
    }

    /// A new key for RS256 (slow), ES256 or EdDSA.
    pub(super) fn draw(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::RS256 => &PKCS_RSA_SHA256,
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            _ => &PKCS_ED25519,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let (private, public) = (pair.serialize_der(), pair.public_key_raw());
        let (key, jwk) = match algorithm {
            Algorithm::RS256 => {
                let (numbers, _) = part(public);
                let (n, rest) = part(numbers);
                let (e, _) = part(rest);
                let n = n.strip_prefix(&[0]).unwrap_or(n);
                let jwk = json!({"kty": "RSA", "n": b64(n), "e": b64(e)});
                // What is in the third element of PKCS #8.
                let (info, _) = part(&private);
                let inner = part(part(part(info).1).1).0;
                (EncodingKey::from_rsa_der(inner), jwk)
            }
            Algorithm::ES256 => {
                let (x, y) = (b64(&public[1..33]), b64(&public[33..]));
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
                (EncodingKey::from_ec_der(&private), jwk)
            }
            _ => {
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(public)});
                (EncodingKey::from_ed_der(&private), jwk)
            }
        };
        Self {
            algorithm,
            key,
            pem: pair.public_key_pem(),
            der: pair.subject_public_key_info(),
            jwk,
        }
    }

    /// One for each algorithm, HS256 with [`SECRET`], and one more each that nobody trusts.
    pub(super) fn all() -> &'static [[Self; 2]; 4] {
        static ALL: OnceLock<[[Signer; 2]; 4]> = OnceLock::new();
        ALL.get_or_init(|| {
            let drawn = |algorithm| [Self::draw(algorithm), Self::draw(algorithm)];
            let strange = [b'?'; 32];
            [
                [Self::secret(SECRET.as_bytes()), Self::secret(&strange)],
                drawn(Algorithm::RS256),
                drawn(Algorithm::ES256),
                drawn(Algorithm::EdDSA),
            ]
        })
    }

    pub(super) fn name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    /// The public key as published, with these fields, too.
    pub(super) fn jwk(&self, more: Value) -> Value {
        merged(self.jwk.clone(), more)
    }

    /// A token with exactly this header and these claims.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// A good token, but for these claims; `null` takes one away.
    pub(super) fn token(&self, claims: Value) -> String {
        self.token_with(json!({}), claims)
    }

    /// The same with these fields in the header.
    pub(super) fn token_with(&self, header: Value, claims: Value) -> String {
        let header = merged(json!({"typ": "JWT", "alg": self.name()}), header);
        self.sign(&header, &merged(good(), claims))
    }
}

fn good() -> Value {
    json!({"sub": "ada", "exp": seconds() + 60, "iat": seconds(), "iss": "us", "aud": "chat"})
}

fn merged(base: Value, more: Value) -> Value {
    let (Value::Object(mut base), Value::Object(more)) = (base, more) else { panic!("objects") };
    for (name, value) in more {
        match value.is_null() {
            true => base.remove(&name),
            false => base.insert(name, value),
        };
    }
    Value::Object(base.into_iter().collect::<Map<_, _>>())
}

/// The content of an element of DER, and what follows it.
fn part(der: &[u8]) -> (&[u8], &[u8]) {
    let (head, length) = match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
        length => (2, usize::from(length)),
    };
    der[head..].split_at(length)
}
