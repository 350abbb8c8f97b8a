//! Passwords: argon2id with the parameters that OWASP recommends (19 MiB, two passes, one lane).

use std::fmt;
use std::sync::OnceLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

/// A password could not be hashed.
#[derive(Debug)]
pub(crate) struct HashError(String);

/// The hash of a password, with a salt of its own, as the users are kept with.
///
/// Costs some 20 ms of a core and 19 MiB for as long.
pub(crate) fn hash(password: &[u8]) -> Result<String, HashError> {
    let hashed = hasher().and_then(|hasher| Ok(hasher.hash_password(password)?.to_string()));
    hashed.map_err(|error| HashError(error.to_string()))
}

/// Whether it is the password with this hash. Costs as much as [`hash`], whatever the answer.
pub(crate) fn verify(password: &[u8], hash: &str) -> bool {
    let (Ok(hasher), Ok(hash)) = (hasher(), PasswordHash::new(hash)) else { return false };
    hasher.verify_password(password, &hash).is_ok()
}

/// The hash of a password that nobody has: what is compared for users that there are not, so that they take as long
/// as others.
pub(crate) fn nobody() -> &'static str {
    static NOBODY: OnceLock<String> = OnceLock::new();
    NOBODY.get_or_init(|| {
        let mut random = [0; 32];
        // Without random numbers no hash can be made at all; then nobody logs in.
        let drawn = getrandom::fill(&mut random).is_ok();
        drawn.then(|| hash(&random).ok()).flatten().unwrap_or_default()
    })
}

fn hasher() -> Result<Argon2<'static>, argon2::password_hash::Error> {
    let params = Params::new(MEMORY, PASSES, LANES, None)
        .map_err(|_| argon2::password_hash::Error::Internal)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In KiB.
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_hash_and_no_other() {
        let (one, two) = (hash(b"correct horse").unwrap(), hash(b"correct horse").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two, "each has a salt of its own");
        assert!(verify(b"correct horse", &one) && verify(b"correct horse", &two));
        for wrong in [&b"correct hors"[..], b"", b"Correct horse", b"correct horse\0"] {
            assert!(!verify(wrong, &one));
        }
        for broken in ["", "x", "$argon2id$v=19$m=19456,t=2,p=1$", "correct horse"] {
            assert!(!verify(b"correct horse", broken), "{broken}");
        }
    }

    #[test]
    fn nobody_has_a_hash_like_everybody_elses() {
        assert!(nobody().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", nobody());
        assert!(!verify(b"", nobody()));
        assert_eq!(nobody(), nobody());
    }
}
