//! JSON Web Tokens (RFC 7519): what an issuer has signed, judged without asking it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use serde_json::value::RawValue;
use throng::{Denied, Grants, Via, Visa};
use throng_protocol::names;

use super::fetch::Fetch;
use super::jwks::{Pace, Source};
use super::keys::Keys;
use super::secrets::Secrets;
use super::{BadKeys, END_OF_TIME, MAX_INFO, contents};
use crate::config::{Algorithm, Jwt};

/// Judges tokens.
///
/// The algorithms are those of the configuration, and each key belongs to one of them: a token chooses
/// neither. Its `kid` is looked up in our own table and nowhere else; `jku`, `jwk`, `x5u` and `x5c` are not
/// looked at. Whatever a token says is believed only once a key of ours has verified it.
pub(super) struct Judge {
    config: Jwt,
    /// What a token of each algorithm must be.
    validations: Vec<(Algorithm, Validation)>,
    /// Of files.
    fixed: RwLock<Arc<Keys>>,
    /// Published.
    source: Option<Arc<Source>>,
}

/// What a token comes to.
enum Finding {
    Good(Box<Visa>),
    Bad(&'static str),
    /// No key of ours verifies it, but one that we do not know yet might.
    UnknownKey,
}

type Claims = HashMap<String, Box<RawValue>>;

impl Judge {
    /// Reads the files, and begins to fetch the published keys.
    pub(super) fn start(config: Jwt, fetch: Fetch) -> Result<Self, BadKeys> {
        Self::paced(config, fetch, Pace::default())
    }

    pub(super) fn paced(config: Jwt, fetch: Fetch, pace: Pace) -> Result<Self, BadKeys> {
        let validations = config.algorithms.as_slice().iter();
        let validations = validations.map(|&a| (a, validation(&config, a))).collect();
        let mut judge = Self { config, validations, fixed: RwLock::default(), source: None };
        judge.replace(judge.read()?);
        if let Some(url) = judge.config.jwks_url.url() {
            let algorithms = judge.config.algorithms.clone();
            judge.source = Some(Source::start(url, algorithms, fetch, pace)?);
        }
        Ok(judge)
    }

    /// Reads the files.
    pub(super) fn read(&self) -> Result<Keys, BadKeys> {
        let (config, algorithms) = (&self.config, self.config.algorithms.as_slice());
        let mut keys = Keys::default();
        if algorithms.contains(&Algorithm::Hs256) {
            keys.add_secrets(&Secrets::read(&config.secret_file, "jwt.secret_file")?);
        }
        if let Some(pem) = contents(&config.key_file, "jwt.key_file")? {
            let about = |bad: BadKeys| BadKeys::new(format!("jwt.key_file: {bad}"));
            keys.add_pem(&pem, algorithms).map_err(about)?;
        }
        if let Some(json) = contents(&config.jwks_file, "jwt.jwks_file")? {
            let before = keys.len();
            let jwks = keys.add_jwks(&json, algorithms);
            if jwks.is_none() || keys.len() == before {
                return Err(BadKeys::new(
                    "jwt.jwks_file: the file is no JWKS with keys for jwt.algorithms",
                ));
            }
        }
        Ok(keys)
    }

    /// Puts other keys in place of those of files.
    pub(super) fn replace(&self, fixed: Keys) {
        *self.fixed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fixed);
    }

    /// Says who shows this token. Waits only when a key is not known and may have been published.
    pub(super) async fn visa(&self, token: &str) -> Result<Visa, Denied> {
        let mut finding = self.look_at(token);
        if let (Finding::UnknownKey, Some(source)) = (&finding, &self.source) {
            let known = source.refreshed().await;
            finding = self.look_at(token);
            // Whoever publishes the keys may have one for it.
            if !known && matches!(finding, Finding::UnknownKey) {
                return Err(Denied::Unavailable);
            }
        }
        let reason = match finding {
            Finding::Good(visa) => return Ok(*visa),
            Finding::Bad(reason) => reason,
            Finding::UnknownKey => "no key verifies it",
        };
        tracing::debug!(reason, "a JWT is not good");
        Err(Denied::Unauthorized)
    }

    fn look_at(&self, token: &str) -> Finding {
        let Ok(header) = decode_header(token) else { return Finding::Bad("it has no header") };
        let ours = self.validations.iter().find(|(_, v)| v.algorithms.contains(&header.alg));
        let Some((algorithm, validation)) = ours else {
            return Finding::Bad("its algorithm is none of ours");
        };
        if header.crit.is_some() {
            return Finding::Bad("it needs something that we do not know");
        }
        if !is_access_token(&header) {
            return Finding::Bad("it is a token for something else");
        }
        let fixed = Arc::clone(&self.fixed.read().unwrap_or_else(PoisonError::into_inner));
        let published = self.source.as_ref().map(|source| source.keys()).unwrap_or_default();
        let (tables, id) = ([&*fixed, &*published], header.kid.as_deref());
        for key in Keys::candidates(&tables, *algorithm, id) {
            match decode::<Claims>(token, &key.key, validation) {
                Ok(verified) => return self.read_claims(&verified.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    kind => return Finding::Bad(reason(kind)),
                },
            }
        }
        let known = id.is_some_and(|id| tables.iter().any(|keys| keys.knows(*algorithm, id)));
        match self.source.is_some() && *algorithm != Algorithm::Hs256 && !known {
            true => Finding::UnknownKey,
            false => Finding::Bad("no key verifies it"),
        }
    }

    fn read_claims(&self, claims: &Claims) -> Finding {
        match self.visa_of(claims, super::now() / 1000) {
            Ok(visa) => Finding::Good(Box::new(visa)),
            Err(reason) => Finding::Bad(reason),
        }
    }

    /// What verified claims say. Errors: why they say nothing.
    fn visa_of(&self, claims: &Claims, now: u64) -> Result<Visa, &'static str> {
        let (config, leeway) = (&self.config, self.config.leeway.as_secs());
        let claim = |name: &str| {
            let value = claims.get(name).filter(|_| !name.is_empty());
            value.map(|value| value.get()).filter(|value| *value != "null")
        };
        let user = claim(&config.user_claim.0).ok_or("it names no user")?;
        let user_id: String = serde_json::from_str(user).map_err(|_| "its user is no text")?;
        if !names::is_user(&user_id) {
            return Err("its user is no id of a user");
        }
        let expires = claim("exp").and_then(seconds).ok_or("it has no time of expiry")?;
        let issued = match claim("iat") {
            Some(time) => Some(seconds(time).ok_or("iat is no time")?),
            None => None,
        };
        if issued.is_some_and(|issued| issued > now + leeway) {
            return Err("it was issued in the future");
        }
        let info = claim(&config.info_claim.0).map(str::to_owned);
        if info.as_ref().is_some_and(|info| info.len() > MAX_INFO) {
            return Err("its info is too large");
        }
        let grants = match claim(&config.rooms_claim.0) {
            Some(rooms) => Grants::from_json(rooms).map_err(|_| "its rooms are no rights")?,
            None => Grants::NONE,
        };
        let token_id = match claim("jti") {
            Some(id) => Some(serde_json::from_str::<String>(id).map_err(|_| "jti is no text")?),
            None => None,
        };
        if token_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_TOKEN_ID) {
            return Err("jti is empty or too long");
        }
        Ok(Visa {
            user_id,
            name: None,
            info,
            grants,
            // A token that is taken although its time is over opens a session that is not over at once.
            expires: Some((expires + leeway) * 1000),
            issued: issued.map(|issued| issued * 1000),
            token_id,
            via: Via::Token,
        })
    }
}

fn validation(config: &Jwt, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(match algorithm {
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    });
    validation.leeway = config.leeway.as_secs();
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if config.issuer.0.is_empty() {
        validation.iss = None;
    } else {
        validation.set_issuer(&[&config.issuer.0]);
        required.push("iss");
    }
    if config.audience.0.is_empty() {
        validation.validate_aud = false;
    } else {
        validation.set_audience(&[&config.audience.0]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// Whether the type of the token, if it has one, is that of tokens that let somebody in (RFC 8725 §3.11),
/// and not that of a logout token, an event or a proof.
fn is_access_token(header: &Header) -> bool {
    let Some(kind) = &header.typ else { return true };
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

/// A NumericDate (RFC 7519 §2), without its fraction, if it is one that can be meant.
fn seconds(json: &str) -> Option<u64> {
    let number: serde_json::Number = serde_json::from_str(json).ok()?;
    let seconds = match number.as_u64() {
        Some(seconds) => seconds,
        None => number.as_f64().filter(|seconds| *seconds >= 0.0)? as u64,
    };
    (seconds <= END_OF_TIME).then_some(seconds)
}

/// In our own words: the library's may have parts of the token in them.
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not good yet",
        ErrorKind::InvalidIssuer => "its issuer is not ours",
        ErrorKind::InvalidAudience => "it is for somebody else",
        ErrorKind::MissingRequiredClaim(_) => "it lacks exp, iss or aud",
        _ => "it is broken",
    }
}

/// In bytes.
const MAX_TOKEN_ID: usize = 256;
