//! Unpredictable bytes, from the operating system.

use crate::error::Error;

/// The keys that frames are masked with. Nobody who can choose what is sent may be able to
/// predict them (RFC 6455 §10.3).
pub(crate) struct MaskKeys {
    block: [u8; BLOCK],
    used: usize,
}

impl MaskKeys {
    /// Fetches nothing yet.
    pub(crate) fn new() -> Self {
        Self { block: [0; BLOCK], used: BLOCK }
    }

    /// A new key. Every 64th fetches a block of them, which is a system call.
    pub(crate) fn next(&mut self) -> Result<[u8; 4], Error> {
        if self.used >= BLOCK {
            fill(&mut self.block)?;
            self.used = 0;
        }
        let mut key = [0; 4];
        key.copy_from_slice(&self.block[self.used..self.used + 4]);
        self.used += 4;
        Ok(key)
    }
}

/// The nonce of an opening handshake.
pub(crate) fn nonce() -> Result<[u8; 16], Error> {
    let mut nonce = [0; 16];
    fill(&mut nonce)?;
    Ok(nonce)
}

/// Where the numbers that spread clients over time begin.
pub(crate) fn seed() -> Result<u64, Error> {
    let mut seed = [0; 8];
    fill(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::Entropy(std::io::Error::other(error)))
}

const BLOCK: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_do_not_repeat_within_or_across_blocks() {
        let mut keys = MaskKeys::new();
        let seen: HashSet<_> = (0..256).map(|_| keys.next().unwrap()).collect();
        // 256 of 2³² values: two equal ones would be a coincidence of 1 in 130,000.
        assert!(seen.len() >= 255);
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }
}
