//! Keys of the HTTP API: making them, and knowing them again.

use std::fmt;

use getrandom::Error;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use throng::Code;

use super::answer::Problem;
use crate::config::{ApiKey, ApiKeys, Scopes};

/// A new key, shown once. What the configuration keeps is only its hash.
pub(crate) struct NewKey {
    secret: String,
    listed: ApiKey,
}

impl NewKey {
    /// Draws 160 random bits. Without a name, the key is called by the start of its hash.
    pub(crate) fn draw(name: Option<String>, scopes: Scopes) -> Result<Self, Error> {
        let mut bits = [0; 20];
        getrandom::fill(&mut bits)?;
        let secret = format!("tk_{}", base32(&bits));
        let hash = sha256(secret.as_bytes());
        let name = name.unwrap_or_else(|| format!("key-{}", &hex(&hash)[..8]));
        Ok(Self { secret, listed: ApiKey { name, hash, scopes } })
    }
}

impl fmt::Display for NewKey {
    /// Two lines for a machine: the key, and `NAME:HASH`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.secret, self.listed.line())
    }
}

/// The key that a request shows, or why it may not pass. `needed`: what it must be good for.
pub(super) fn authorise<'k>(
    keys: &'k ApiKeys,
    headers: &HeaderMap,
    needed: Scopes,
) -> Result<&'k ApiKey, Problem> {
    let refuse = |text| Err(Problem::new(Code::Unauthorized, text));
    if keys.is_empty() {
        return refuse(
            "This server has no API keys. Make one with `throng key new` and put its hash into \
             throng.toml: [api] keys = [\"NAME:HASH\"].",
        );
    }
    let Some(key) = bearer(headers) else {
        return refuse("The request needs a header `Authorization: Bearer <API key>`.");
    };
    // The hash takes as long for every text of one length, and the comparison for every hash.
    match keys.find(&sha256(key.as_bytes())) {
        Some(key) if key.scopes.has(needed) => Ok(key),
        Some(_) => {
            let text = format!("This key may not do this: it lacks `{}`.", needed.words());
            Err(Problem::new(Code::Forbidden, text))
        }
        None => refuse("This is not a key of this server."),
    }
}

/// What stands behind `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4648 §6 in lower case; every five bytes are eight letters.
fn base32(bytes: &[u8; 20]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(32);
    for five in bytes.chunks(5) {
        let number = five.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            text.push(char::from(LETTERS[(number >> (5 * place) & 31) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    #[test]
    fn letters_are_those_of_the_rfc() {
        let text = base32(b"foobarfoobarfoobarfo");
        assert_eq!(text, "mzxw6ytbojtg633cmfzgm33pmjqxeztp");
    }

    #[test]
    fn a_new_key_opens_the_door_and_no_other_does() {
        let draw = |name: Option<&str>, scopes| NewKey::draw(name.map(str::to_owned), scopes);
        let one = draw(None, Scopes::ALL).unwrap();
        let two = draw(Some("ci"), Scopes::parse("read+rooms").unwrap()).unwrap();
        assert_ne!(one.secret, two.secret);
        assert_eq!((one.secret.len(), &one.secret[..3]), (35, "tk_"));
        let shown = two.to_string();
        let (secret, line) = shown.trim_end().split_once('\n').unwrap();
        assert_eq!(secret, two.secret);
        assert!(line.starts_with("ci:") && !line.contains(secret), "{line}");

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("throng.toml");
        std::fs::write(&file, format!("[api]\nkeys = [\"{line}\"]\n")).unwrap();
        let flags = crate::config::Flags { file: Some(file), ..Default::default() };
        let machine = crate::config::Machine { cores: 1, files: 100 };
        let keys = crate::config::Config::load(&flags, &[], machine).unwrap().keys;

        let may = |values: &[&str], scopes| {
            authorise(&keys, &headers(values), scopes).map(|key| key.name.clone())
        };
        let shows = |values: &[&str]| may(values, Scopes::READ);
        let bearer = format!("Bearer {secret}");
        assert_eq!(shows(&[&bearer]), Ok("ci".to_owned()));
        assert_eq!(shows(&[&format!("bearer  {secret} ")]), Ok("ci".to_owned()));
        let other = format!("Bearer {}", one.secret);
        for wrong in [
            &[][..],
            &[secret],
            &[&other],
            &[&format!("{bearer}x")],
            &["Bearer "],
            &["Bearer"],
            &[&format!("Basic {secret}")],
            &[&bearer, &bearer],
            &[line],
        ] {
            let problem = shows(wrong).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.code), (401, "unauthorized"), "{wrong:?}");
            assert!(!problem.message.contains(secret), "{problem:?}");
        }
        assert_eq!(may(&[&bearer], Scopes::ROOMS), Ok("ci".to_owned()));
        let lacks = may(&[&bearer], Scopes::PUBLISH).unwrap_err();
        assert_eq!((lacks.status.as_u16(), lacks.code), (403, "forbidden"));
        assert!(lacks.message.contains("`publish`"), "{lacks:?}");
        let none = authorise(&ApiKeys::default(), &headers(&[&bearer]), Scopes::READ).unwrap_err();
        assert!(none.message.contains("`throng key new`"), "{none:?}");
    }
}
