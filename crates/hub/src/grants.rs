//! What is granted in which rooms, as tickets and the configuration write it.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use throng_protocol::names;

use crate::rights::Rights;
use crate::rule::Pattern;

/// Rights in the rooms of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of which rooms.
    pub pattern: Pattern,
    /// What may be done there.
    pub rights: Rights,
    /// Of which types the messages must be that may be sent; empty for any.
    pub types: Box<[Box<str>]>,
}

/// Rights in rooms by the pattern of their name; what several grants give adds up. Cheap to clone.
///
/// As JSON, in tickets and tokens: `{"news:*":["join","history"],"chat:7":["join","send:chat"]}`. As words,
/// in the configuration: `lobby` (everything), `news:*=join,history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Option<Arc<[Grant]>>);

impl Grants {
    /// No rights anywhere.
    pub const NONE: Self = Self(None);

    /// These.
    pub fn new(grants: impl IntoIterator<Item = Grant>) -> Self {
        let grants: Arc<[Grant]> = grants.into_iter().collect();
        Self((!grants.is_empty()).then_some(grants))
    }

    /// Everything everywhere.
    pub fn all() -> Self {
        let types = Box::default();
        Self::new([Grant { pattern: Pattern::new("*"), rights: Rights::ALL, types }])
    }

    /// From a JSON object: patterns, each with a list of rights.
    ///
    /// # Errors
    /// [`GrantsError`]: nothing of it holds then.
    pub fn from_json(text: &str) -> Result<Self, GrantsError> {
        if text.len() > MAX_TEXT {
            return Err(GrantsError::TooMany);
        }
        let listed: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| GrantsError::Shape)?;
        let grants = listed.iter().map(|(pattern, rights)| {
            let rights = rights.as_array().ok_or(GrantsError::Shape)?;
            let rights = rights.iter().map(|right| right.as_str().ok_or(GrantsError::Shape));
            Grant::read(pattern, rights)
        });
        Self::checked(grants)
    }

    /// From words: `PATTERN` or `PATTERN=RIGHT,RIGHT…`.
    ///
    /// # Errors
    /// [`GrantsError`]: nothing of it holds then.
    pub fn from_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Self, GrantsError> {
        Self::checked(words.into_iter().map(|word| match word.split_once('=') {
            Some((pattern, rights)) => Grant::read(pattern, rights.split(',').map(Ok)),
            None => Grant::read(word, Rights::ALL.names().map(Ok)),
        }))
    }

    fn checked(
        grants: impl Iterator<Item = Result<Grant, GrantsError>>,
    ) -> Result<Self, GrantsError> {
        let grants = grants.collect::<Result<Vec<_>, _>>()?;
        if grants.len() > MAX_GRANTS {
            return Err(GrantsError::TooMany);
        }
        Ok(Self::new(grants))
    }

    /// As [`Grants::from_json`] reads it.
    pub fn to_json(&self) -> String {
        let listed = self.iter().map(|grant| {
            let rights = grant.words().into_iter().map(Value::String).collect();
            (grant.pattern.as_str().to_owned(), Value::Array(rights))
        });
        Value::Object(listed.collect()).to_string()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().flat_map(|grants| grants.iter())
    }
}

impl fmt::Display for Grants {
    /// As words, separated by blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, grant) in self.iter().enumerate() {
            let blank = if at > 0 { " " } else { "" };
            let pattern = grant.pattern.as_str();
            match grant.rights == Rights::ALL && grant.types.is_empty() {
                true => write!(f, "{blank}{pattern}")?,
                false => write!(f, "{blank}{pattern}={}", grant.words().join(","))?,
            }
        }
        Ok(())
    }
}

impl Grant {
    fn read<'w>(
        pattern: &str,
        words: impl Iterator<Item = Result<&'w str, GrantsError>>,
    ) -> Result<Self, GrantsError> {
        let plain = pattern.replace('*', "x");
        if !names::is_room(&plain) {
            return Err(GrantsError::Pattern(pattern.chars().take(MAX_SHOWN).collect()));
        }
        let (mut rights, mut types, mut any) = (Rights::NONE, Vec::new(), false);
        for word in words {
            let word = word?;
            if let Some(kind) = word.strip_prefix("send:").filter(|kind| !kind.is_empty()) {
                rights |= Rights::SEND;
                types.push(kind.into());
            } else if let Some(right) = Rights::named(word) {
                rights |= right;
                any |= right == Rights::SEND;
            } else {
                return Err(GrantsError::Right(word.chars().take(MAX_SHOWN).collect()));
            }
        }
        if any {
            types.clear();
        }
        Ok(Self { pattern: Pattern::new(pattern), rights, types: types.into() })
    }

    fn words(&self) -> Vec<String> {
        let (kept, typed) = match self.types.is_empty() {
            true => (self.rights, &[][..]),
            false => (self.rights.without(Rights::SEND), &self.types[..]),
        };
        let types = typed.iter().map(|kind| format!("send:{kind}"));
        kept.names().map(str::to_owned).chain(types).collect()
    }
}

/// Why grants are none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantsError {
    /// Not an object of lists of words.
    Shape,
    /// More than 64 patterns, or more than 16 KiB.
    TooMany,
    /// Not a pattern of room names.
    Pattern(String),
    /// Not a right.
    Right(String),
}

impl fmt::Display for GrantsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str(
                "rights are an object of patterns, each with a list of join, send, send:TYPE, \
                 presence, history",
            ),
            Self::TooMany => f.write_str("rights have at most 64 patterns and 16 KiB"),
            Self::Pattern(pattern) => write!(
                f,
                "{pattern:?} is not a pattern of rooms: 1 to 128 characters of A-Z a-z 0-9 _ . : @ / - *"
            ),
            Self::Right(word) => write!(
                f,
                "{word:?} is not a right: join, send, send:TYPE, presence and history are"
            ),
        }
    }
}

impl std::error::Error for GrantsError {}

const MAX_GRANTS: usize = 64;
const MAX_TEXT: usize = 16 << 10;
/// How much of what is wrong is shown.
const MAX_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_what_they_write() {
        let json =
            r#"{"a:*":["join","send:chat","send:move"],"b":["join","send","presence","history"]}"#;
        let grants = Grants::from_json(json).unwrap();
        assert_eq!(Grants::from_json(&grants.to_json()).unwrap(), grants);
        let words = grants.to_string();
        assert_eq!(words, "a:*=join,send:chat,send:move b");
        assert_eq!(Grants::from_words(words.split(' ')).unwrap(), grants);
        assert!(Grants::from_json("{}").unwrap().is_empty());
        let both = Grants::from_words(["x=send:chat,send"]).unwrap();
        assert!(both.iter().all(|grant| grant.types.is_empty()));
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for (json, error) in [
            ("[]", GrantsError::Shape),
            ("{", GrantsError::Shape),
            (r#"{"a":"join"}"#, GrantsError::Shape),
            (r#"{"a":[1]}"#, GrantsError::Shape),
            (r#"{"a":["fly"]}"#, GrantsError::Right("fly".into())),
            (r#"{"a":["send:"]}"#, GrantsError::Right("send:".into())),
            (r#"{"a b":["join"]}"#, GrantsError::Pattern("a b".into())),
            (r#"{"":["join"]}"#, GrantsError::Pattern(String::new())),
        ] {
            assert_eq!(Grants::from_json(json).unwrap_err(), error, "{json}");
        }
        let many = (0..65).map(|n| format!("\"r{n}\":[\"join\"]")).collect::<Vec<_>>().join(",");
        assert_eq!(Grants::from_json(&format!("{{{many}}}")), Err(GrantsError::TooMany));
    }
}
