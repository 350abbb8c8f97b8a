//! `Sec-WebSocket-Key` and `Sec-WebSocket-Accept` (RFC 6455 §4.1, §4.2.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// Whether `key` is the base64 form of exactly 16 bytes.
///
/// The four unused bits of the last digit may have any value, as in every deployed server
/// (RFC 4648 §3.5 leaves it open). Nothing is decoded: the server has no use for the bytes.
pub(super) fn is_valid(key: &[u8]) -> bool {
    key.len() == KEY_LEN
        && key.ends_with(b"==")
        && key[..KEY_LEN - 2].iter().all(|&b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// The key that carries `nonce`.
pub(super) fn encode(nonce: [u8; 16]) -> [u8; KEY_LEN] {
    base64_array(&nonce)
}

/// The value of `Sec-WebSocket-Accept` that answers `key`.
pub(super) fn answer(key: &[u8]) -> [u8; ANSWER_LEN] {
    base64_array(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn base64_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let written = STANDARD
        .encode_slice(bytes, &mut out)
        .expect("invariant: N is the base64 length of the input, see the callers");
    debug_assert_eq!(written, N);
    out
}

/// 16 bytes in base64.
const KEY_LEN: usize = 24;
/// A SHA-1 digest in base64.
const ANSWER_LEN: usize = 28;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_section_1_3() {
        assert_eq!(&answer(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&encode(*b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn a_key_is_sixteen_bytes_of_base64() {
        assert!(is_valid(b"dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(is_valid(b"////////////////++++++=="));
        for bad in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ=== ",
            b"dGhlIHNhbXBsZSBub25jZTE=",
            b"dGhlIHNhbXBsZSBub25jZTEyMw==",
            b"dGhlIHNhbXBsZSBub25j_Q==",
            b"dGhlIHNhbXBs ZSBub25jZ==",
            b"dGhlIHNhbXBsZSBub2=jZQ==",
            b"========================",
        ] {
            assert!(!is_valid(bad), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
