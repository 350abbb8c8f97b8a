//! The keys that tokens are verified with, each for one algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use tokio_rustls::rustls::pki_types::alg_id;
use tokio_rustls::rustls::pki_types::pem::{PemObject as _, SectionKind};

use super::BadKeys;
use super::secrets::Secrets;
use crate::config::Algorithm;

/// A table of keys. What a token says only ever chooses among them.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

/// A key, and what it is for. A token of another algorithm is never verified with it.
pub(super) struct Key {
    algorithm: Algorithm,
    /// As its publisher calls it.
    id: Option<Box<str>>,
    pub(super) key: DecodingKey,
}

impl Keys {
    /// Those for a token of this algorithm that names this key: those of that name; if there are none,
    /// those without a name. Without a name in the token, all of the algorithm. At most 16.
    pub(super) fn candidates<'k>(
        tables: &'k [&'k Keys],
        algorithm: Algorithm,
        id: Option<&'k str>,
    ) -> impl Iterator<Item = &'k Key> {
        let all = move || tables.iter().flat_map(|keys| &keys.0);
        // Secrets have no names.
        let id = id.filter(|_| algorithm != Algorithm::Hs256);
        let named = id.is_some() && all().any(|key| key.is(algorithm) && key.id.as_deref() == id);
        all()
            .filter(move |key| key.is(algorithm))
            .filter(move |key| match (id, named) {
                (None, _) => true,
                (Some(_), false) => key.id.is_none(),
                (Some(_), true) => key.id.as_deref() == id,
            })
            .take(MAX_TRIES)
    }

    /// Whether a key of this algorithm is called so.
    pub(super) fn knows(&self, algorithm: Algorithm, id: &str) -> bool {
        self.0.iter().any(|key| key.is(algorithm) && key.id.as_deref() == Some(id))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes secrets in, for HS256.
    pub(super) fn add_secrets(&mut self, secrets: &Secrets) {
        self.0.extend(secrets.iter().map(|secret| Key {
            algorithm: Algorithm::Hs256,
            id: None,
            key: DecodingKey::from_secret(secret),
        }));
    }

    /// Takes the public keys of a PEM file in (`BEGIN PUBLIC KEY`, RFC 7468 §13). Each must be good for one
    /// of the algorithms.
    pub(super) fn add_pem(&mut self, pem: &[u8], algorithms: &[Algorithm]) -> Result<(), BadKeys> {
        let mut found = 0;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|_| BadKeys::new("the file is broken PEM"))?;
            if kind != SectionKind::PublicKey {
                return Err(BadKeys::new(
                    "the file has something else in it than public keys; make one of a private key \
                     with `openssl pkey -pubout`",
                ));
            }
            let (algorithm, key) = from_spki(&der).ok_or_else(|| {
                BadKeys::new(
                    "a key is none of RSA (2048 to 8192 bits), P-256 and Ed25519, which RS256, ES256 \
                     and EdDSA need",
                )
            })?;
            if !algorithms.contains(&algorithm) {
                let name = algorithm.name();
                return Err(BadKeys::new(format!(
                    "a key is for {name}, which is not in jwt.algorithms"
                )));
            }
            self.0.push(Key { algorithm, id: None, key });
            found += 1;
        }
        match found {
            0 => Err(BadKeys::new("the file has no public key in PEM (BEGIN PUBLIC KEY)")),
            1..=MAX_TRIES => Ok(()),
            _ => Err(BadKeys::new(format!("the file has more than {MAX_TRIES} keys"))),
        }
    }

    /// Takes the keys of a JWKS in (RFC 7517 §5) that can verify one of the algorithms; those for anything
    /// else are skipped, as are symmetric ones: what is published is no secret. `None` when this is no JWKS.
    pub(super) fn add_jwks(&mut self, json: &[u8], algorithms: &[Algorithm]) -> Option<()> {
        let set: Jwks = serde_json::from_slice(json).ok()?;
        let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|value| {
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            let (algorithm, key) = jwk.key()?;
            let id = jwk.kid.map(Into::into);
            algorithms.contains(&algorithm).then_some(Key { algorithm, id, key })
        });
        self.0.extend(keys);
        Some(())
    }
}

impl Key {
    fn is(&self, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// RFC 7517 §4, RFC 7518 §6, RFC 8037 §2.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn key(&self) -> Option<(Algorithm, DecodingKey)> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                let key = is_rsa(&n, &e).then(|| DecodingKey::from_rsa_raw_components(&n, &e))?;
                (Algorithm::Rs256, key)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                (Algorithm::Es256, DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
            }
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&self.x).filter(|x| x.len() == 32)?;
                (Algorithm::EdDsa, DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        // A key for PS256 is none for RS256.
        let fits = self.alg.as_deref().is_none_or(|named| named == algorithm.name());
        fits.then_some((algorithm, key))
    }
}

/// The key in a SubjectPublicKeyInfo (RFC 5280 §4.1), and the one algorithm it is for.
fn from_spki(der: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    let (info, b"") = element(der, SEQUENCE)? else { return None };
    let (kind, rest) = element(info, SEQUENCE)?;
    let (bits, b"") = element(rest, BIT_STRING)? else { return None };
    let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    if kind == alg_id::RSA_ENCRYPTION.as_ref() {
        let (numbers, b"") = element(key, SEQUENCE)? else { return None };
        let (n, rest) = element(numbers, INTEGER)?;
        let (e, b"") = element(rest, INTEGER)? else { return None };
        is_rsa(n, e).then(|| (Algorithm::Rs256, DecodingKey::from_rsa_der(key)))
    } else if kind == alg_id::ECDSA_P256.as_ref() {
        let is_point = key.len() == 65 && key[0] == 4;
        is_point.then(|| (Algorithm::Es256, DecodingKey::from_ec_der(key)))
    } else if kind == alg_id::ED25519.as_ref() {
        (key.len() == 32).then(|| (Algorithm::EdDsa, DecodingKey::from_ed_der(key)))
    } else {
        None
    }
}

/// Whether these are a modulus of 2048 to 8192 bits and an exponent that is one.
fn is_rsa(n: &[u8], e: &[u8]) -> bool {
    let significant = |bytes: &[u8]| bytes.len() - bytes.iter().take_while(|b| **b == 0).count();
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte % 2 == 1);
    let is_one = significant(e) == 1 && e.last() == Some(&1);
    (256..=1024).contains(&significant(n)) && odd(n) && odd(e) && !is_one && significant(e) <= 4
}

/// The content of the first element of DER, which must have this tag, and what stands behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    if found != tag { None } else { rest.split_at_checked(length) }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// Of a published set; the others are left out.
const MAX_KEYS: usize = 64;

/// How many signatures a token costs at most.
const MAX_TRIES: usize = 16;
