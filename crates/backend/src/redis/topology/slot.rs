use sha1::{Digest, Sha1};

/// What decides where a key is: what stands between its first `{` and the next `}`, or all of it.
pub(super) fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    match key[open + 1..].iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &key[open + 1..open + 1 + length],
        _ => key,
    }
}

/// The slot of a tag in a cluster: CRC16 (XMODEM) modulo 16384.
pub(super) fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// How much a tag belongs to one of several servers: the one with the highest score has it. When a server is added, only
/// what it gets moves.
pub(super) fn score(address: &str, tag: &[u8]) -> u64 {
    let mut hash = Sha1::new();
    hash.update(address.as_bytes());
    hash.update([0]);
    hash.update(tag);
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |score, &byte| score << 8 | u64::from(byte))
}

pub(super) const SLOTS: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As CLUSTER KEYSLOT says.
        for (key, expected) in [("123456789", 12739), ("foo", 12182), ("{foo}:m", 12182), ("", 0)] {
            assert_eq!(slot(tag(key.as_bytes())), expected, "{key}");
        }
        assert_eq!(tag(b"throng:{#3/lobby}:d:s}"), b"#3/lobby");
        assert_eq!(tag(b"{}a"), b"{}a");
        assert_eq!(tag(b"a{b"), b"a{b");
    }

    #[test]
    fn a_new_server_takes_only_its_share() {
        let place = |servers: &[&str], tag: &str| {
            let best = servers.iter().max_by_key(|server| score(server, tag.as_bytes()));
            best.unwrap().to_string()
        };
        let (mut moved, mut kept) = (0, 0);
        for n in 0..3000 {
            let tag = format!("room{n}");
            let (before, after) =
                (place(&["a:1", "b:1"], &tag), place(&["a:1", "b:1", "c:1"], &tag));
            if before == after {
                kept += 1;
            } else {
                assert_eq!(after, "c:1");
                moved += 1;
            }
        }
        assert!((800..1200).contains(&moved), "{moved} of {}", moved + kept);
    }
}
