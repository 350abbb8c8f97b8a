//! Ids made from random bytes: base32 without the letters i, l, o and u, which people and
//! fonts confuse.

/// The id of an anonymous user: `u_` and 13 letters for 64 bits, so that among ten million
/// users two with one id have a chance of 1 to 370,000. One allocation of 15 bytes.
pub fn user_id(random: [u8; 8]) -> String {
    encode("u_", &random)
}

/// The id of a session: `s_` and 16 letters for 80 bits. It names a session in logs and API,
/// and is no secret. One allocation of 18 bytes.
pub fn session_id(random: [u8; 10]) -> String {
    encode("s_", &random)
}

/// A ticket: `t_` and 32 letters for 160 bits. A secret.
pub fn ticket(random: [u8; 20]) -> String {
    encode("t_", &random)
}

const ALPHABET: [u8; 32] = *b"0123456789abcdefghjkmnpqrstvwxyz";

pub(crate) fn encode(prefix: &str, bytes: &[u8]) -> String {
    let mut id = String::with_capacity(prefix.len() + (bytes.len() * 8).div_ceil(5));
    id.push_str(prefix);
    let (mut bits, mut held) = (0u32, 0);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            id.push(letter(bits >> held));
        }
    }
    if held > 0 {
        id.push(letter(bits << (5 - held)));
    }
    id
}

fn letter(bits: u32) -> char {
    char::from(ALPHABET[bits as usize % 32])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(user_id([0; 8]), "u_0000000000000");
        assert_eq!(user_id([0xFF; 8]), "u_zzzzzzzzzzzzy");
        assert_eq!(session_id([0xFF; 10]), "s_zzzzzzzzzzzzzzzz");
        assert_eq!(session_id(*b"\x00\x44\x32\x14\xc7\x42\x54\xb6\x35\xcf"), "s_0123456789abcdef");
        let id = user_id(0x0123_4567_89AB_CDEF_u64.to_be_bytes());
        assert!(throng_protocol::names::is_user(&id));
    }

    #[test]
    fn every_bit_counts() {
        let mut seen = HashSet::new();
        for bit in 0..64 {
            assert!(seen.insert(user_id((1u64 << bit).to_be_bytes())));
        }
        for bit in 0..80 {
            let mut random = [0; 10];
            random[bit / 8] = 1 << (bit % 8);
            assert!(seen.insert(session_id(random)));
        }
    }
}
