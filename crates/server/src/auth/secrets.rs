//! Secrets of which a file may hold several, so that a new one can come before the old one goes.

use super::{BadKeys, contents};
use crate::config::FilePath;

/// The secrets of a file, in its order. Shows nothing of itself.
#[derive(Clone)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Reads a file in which each line is a secret of at least 32 bytes. A file that is no text is one
    /// secret as a whole. None where no file is named.
    pub(super) fn read(file: &FilePath, key: &str) -> Result<Self, BadKeys> {
        let Some(bytes) = contents(file, key)? else { return Ok(Self::none()) };
        Self::parse(&bytes).map_err(|what| BadKeys::new(format!("{key}: {what}")))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        let secrets: Vec<Vec<u8>> = match bytes.iter().all(is_text) {
            true => bytes
                .split(|byte| *byte == b'\n')
                .map(|line| line.trim_ascii_end().to_vec())
                .filter(|line| !line.is_empty())
                .collect(),
            false => vec![bytes.to_vec()],
        };
        if bytes.windows(KEY.len()).any(|window| window == KEY) {
            return Err("this is a key in PEM, and no secret; a public key belongs into \
                        jwt.key_file"
                .to_owned());
        }
        match secrets.iter().map(Vec::len).min() {
            None => Err("the file is empty".to_owned()),
            Some(_) if secrets.len() > MOST => {
                Err(format!("the file has more than {MOST} secrets, one in each line"))
            }
            Some(least) if least < LEAST => Err(format!(
                "each line of the file is a secret and must have at least {LEAST} bytes, not \
                 {least}; draw one with `openssl rand -hex 32`"
            )),
            Some(_) => Ok(Self(secrets)),
        }
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Not one.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    #[cfg(test)]
    pub(super) fn of(secrets: &[&str]) -> Self {
        Self(secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect())
    }
}

/// RFC 7518 §3.2: a key of HS256 has at least as many bits as its hash.
const LEAST: usize = 32;

/// Each costs a hash for a bad token.
const MOST: usize = 16;

const KEY: &[u8] = b"-----BEGIN ";

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef";
    const B: &str = "another secret that is long enough";

    fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        Secrets::parse(bytes).map(|secrets| secrets.0)
    }

    #[test]
    fn each_line_is_a_secret() {
        assert_eq!(parse(A.as_bytes()).unwrap(), [A.as_bytes()]);
        let both = parse(format!("{A}\r\n\n{B}\n").as_bytes()).unwrap();
        assert_eq!(both, [A.as_bytes(), B.as_bytes()]);
        let mut random = [0x80; 32];
        random[7] = b'\n';
        assert_eq!(parse(&random).unwrap(), [random]);
    }

    #[test]
    fn weak_ones_are_refused_and_not_shown() {
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{A}{A}\n-----END PUBLIC KEY-----\n");
        for (wrong, what) in [
            ("", "empty"),
            ("\n\n", "empty"),
            ("correct horse battery", "at least 32 bytes, not 21"),
            (&format!("{A}\nhorse\n"), "at least 32 bytes, not 5"),
            (&format!("{A}\n").repeat(17), "more than 16"),
            (&pem, "jwt.key_file"),
        ] {
            let said = parse(wrong.as_bytes()).unwrap_err();
            assert!(said.contains(what) && !said.contains("horse"), "{said}");
        }
        assert!(parse(&[0x80; 31]).unwrap_err().contains("not 31"));
    }
}
