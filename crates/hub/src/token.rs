use std::fmt;
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use throng_protocol::Timestamp;

use crate::identity::Identity;

/// Makes and reads resume tokens: a session, signed, so that taking it up again needs no ticket and no
/// database.
///
/// A token is `base64url(version ‖ signed in ‖ boot ‖ issued ‖ lengths ‖ ids, name, info ‖ mac)`, where the mac
/// is HMAC-SHA-256 (RFC 2104) cut to 16 bytes. It says who somebody is, to whoever has the secret; whether the
/// session may still be taken up is for [`Sessions`](crate::Sessions) to say.
pub struct Tokens {
    /// The first one signs, all are taken.
    macs: RwLock<Vec<Hmac<Sha256>>>,
    boot: u64,
}

/// What a genuine token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose session it is.
    pub who: Identity,
    /// When the token was made.
    pub issued: Timestamp,
    /// Whether by this run of the server.
    pub ours: bool,
    /// Whether the session was opened with a ticket or token: what it may do is kept elsewhere.
    pub signed_in: bool,
}

impl Tokens {
    /// Signs with the first of `secrets`, which must be random, not none, and the same for all runs and nodes
    /// whose sessions are to be taken up here; what the others have signed is taken, too, so that secrets can be
    /// changed. `boot` is random for this run.
    pub fn new(secrets: &[[u8; 32]], boot: u64) -> Self {
        Self { macs: RwLock::new(macs(secrets)), boot }
    }

    /// Signs and reads with these secrets from now on, as [`Tokens::new`].
    pub fn replace(&self, secrets: &[[u8; 32]]) {
        *self.macs.write().unwrap_or_else(PoisonError::into_inner) = macs(secrets);
    }

    /// A token for a session: some 100 characters, and 4/3 of the info. About 1 µs.
    pub fn issue(&self, who: &Identity, signed_in: bool, now: Timestamp) -> String {
        let mut bytes = vec![VERSION, u8::from(signed_in)];
        bytes.extend_from_slice(&self.boot.to_be_bytes());
        bytes.extend_from_slice(&now.0.to_be_bytes());
        let (name, info) = (who.name().unwrap_or(""), who.info().unwrap_or(""));
        for part in [who.user_id(), who.session_id(), name, info] {
            let len = u16::try_from(part.len()).expect("invariant: ids, names and infos are short");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        let known = self.macs.read().unwrap_or_else(PoisonError::into_inner);
        let Some(mac) = known.first() else { return String::new() };
        let mac = mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token says; `None` unless it is genuine and not older than a day. Compares in constant
    /// time.
    pub fn read(&self, token: &str, now: Timestamp) -> Option<Claim> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        let genuine = |known: &Hmac<Sha256>| {
            known.clone().chain_update(signed).verify_truncated_left(mac).is_ok()
        };
        let known = self.macs.read().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(genuine) {
            return None;
        }
        drop(known);
        let ([version, signed_in], rest) = signed.split_first_chunk()?;
        if *version != VERSION {
            return None;
        }
        let (boot, rest) = rest.split_first_chunk::<8>()?;
        let (issued, mut rest) = rest.split_first_chunk::<8>()?;
        let issued = Timestamp(u64::from_be_bytes(*issued));
        if now.0.saturating_sub(issued.0) > MAX_AGE {
            return None;
        }
        let mut parts = [""; 4];
        for part in &mut parts {
            let (len, behind) = rest.split_first_chunk::<2>()?;
            let (text, behind) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
            *part = std::str::from_utf8(text).ok()?;
            rest = behind;
        }
        let who = Identity::assemble(parts);
        let ours = u64::from_be_bytes(*boot) == self.boot;
        Some(Claim { who, issued, ours, signed_in: *signed_in != 0 })
    }
}

fn macs(secrets: &[[u8; 32]]) -> Vec<Hmac<Sha256>> {
    let mac = |secret: &[u8; 32]| {
        Hmac::new_from_slice(secret).expect("invariant: HMAC takes keys of any length")
    };
    secrets.iter().map(mac).collect()
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

const VERSION: u8 = 2;
const MAC: usize = 16;
const MAX_TOKEN: usize = 8192;
/// In milliseconds. A connection that lasts longer keeps its session, but a token that was made before
/// is of no use when the server has been restarted.
const MAX_AGE: u64 = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who() {
        let tokens = Tokens::new(&[[7; 32]], 1);
        let who = Identity::anonymous("u_1", "s_1", Some("Zoë \"🦀\""));
        let token = tokens.issue(&who, true, Timestamp(1000));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let claim = tokens.read(&token, Timestamp(2000)).unwrap();
        assert_eq!(
            claim,
            Claim { who: who.clone(), issued: Timestamp(1000), ours: true, signed_in: true }
        );
        let rotated = Tokens::new(&[[9; 32], [7; 32]], 1);
        assert!(rotated.read(&token, Timestamp(2000)).is_some(), "the old secret is still taken");
        let new = rotated.issue(&who, true, Timestamp(1000));
        assert_eq!(tokens.read(&new, Timestamp(2000)), None, "the new one signs");
        let later = Tokens::new(&[[7; 32]], 2).read(&token, Timestamp(2000)).unwrap();
        assert!(!later.ours);
        assert_eq!(tokens.read(&token, Timestamp(1001 + MAX_AGE)), None);
    }

    #[test]
    fn no_other_token_does() {
        let tokens = Tokens::new(&[[7; 32]], 1);
        let token = tokens.issue(&Identity::anonymous("u_1", "s_1", None), false, Timestamp(0));
        assert_eq!(Tokens::new(&[[8; 32]], 1).read(&token, Timestamp(0)), None);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last letter has bits that mean nothing; then it is refused as not canonical.
            assert_eq!(tokens.read(&forged, Timestamp(0)), None, "{at}");
            assert_eq!(tokens.read(&token[..at], Timestamp(0)), None, "{at}");
        }
        for odd in ["", "A", "====", "é", &"A".repeat(MAX_TOKEN + 1), &"A".repeat(64)] {
            assert_eq!(tokens.read(odd, Timestamp(0)), None);
        }
    }
}
