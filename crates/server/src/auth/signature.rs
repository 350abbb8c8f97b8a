//! The signature of a question to the webhook.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::secrets::Secrets;

/// The name of the header.
pub(super) const HEADER: &str = "throng-signature";

/// `t=TIME,v1=HEX`: for each secret the HMAC-SHA-256 of `TIME.BODY`. One `v1` that is right is enough.
pub(super) fn sign(secrets: &Secrets, time: u64, body: &[u8]) -> String {
    let mut header = format!("t={time}");
    for secret in secrets.iter() {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes any key");
        mac.update(time.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        header.push_str(",v1=");
        for byte in mac.finalize().into_bytes() {
            let _ = write!(header, "{byte:02x}");
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python: `hmac.new(secret, b"1700000000000." + body, "sha256").hexdigest()`.
    #[test]
    fn as_others_compute_it() {
        let secrets =
            Secrets::of(&["0123456789abcdef0123456789abcdef", "k2-k2-k2-k2-k2-k2-k2-k2-k2-k2-k2"]);
        let header = sign(&secrets, 1_700_000_000_000, br#"{"token":"x"}"#);
        assert_eq!(
            header,
            "t=1700000000000,v1=4bfea36be422165f90d73ae909a1ed596a9567292809b078c725bc4f784cff4f,v1=64a480d28ecafe0456d2b1fe1a0421e304a4ed8f4a68b14097b2595849282625"
        );
    }
}
