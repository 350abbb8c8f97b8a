//! What is known of a user of the server's own besides the password: the record in the vault.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use throng::Grants;

/// What is known of a user.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Account {
    /// What the user is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What others see, any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    /// Rights, as in a ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Box<RawValue>>,
}

/// Why an account cannot be.
#[derive(Debug)]
pub(crate) struct AccountError(String);

impl Account {
    /// A new one. `info` is JSON, `rooms` are words such as `news:*=join,history`.
    pub(crate) fn new(
        name: Option<String>,
        info: Option<String>,
        rooms: &[String],
    ) -> Result<Self, AccountError> {
        let fits = |name: &str| {
            !name.trim().is_empty() && name.len() <= 256 && !name.contains(char::is_control)
        };
        if name.as_deref().is_some_and(|name| !fits(name)) {
            return Err(AccountError("a name is one line of at most 256 bytes".into()));
        }
        if info.as_deref().is_some_and(|info| info.len() > LONGEST_INFO) {
            return Err(AccountError("info has at most 4096 bytes".into()));
        }
        let info = info.map(RawValue::from_string).transpose();
        let info = info.map_err(|error| AccountError(format!("info is not JSON: {error}")))?;
        let rights = Grants::from_words(rooms.iter().map(String::as_str));
        let rights = rights.map_err(|error| AccountError(error.to_string()))?;
        let rooms = match rights.is_empty() {
            true => None,
            false => RawValue::from_string(rights.to_json()).ok(),
        };
        Ok(Self { name, info, rooms })
    }

    /// From the vault's record; `None` when it is none.
    pub(crate) fn read(record: &str) -> Option<Self> {
        serde_json::from_str(record).ok()
    }

    /// For the vault.
    pub(crate) fn record(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".into())
    }

    /// What others see, as JSON.
    pub(crate) fn info(&self) -> Option<String> {
        self.info.as_ref().map(|info| info.get().to_owned())
    }

    /// The rights beside those of everybody who is signed in; `None` when they cannot be read.
    pub(crate) fn grants(&self) -> Option<Grants> {
        match &self.rooms {
            Some(rooms) => Grants::from_json(rooms.get()).ok(),
            None => Some(Grants::NONE),
        }
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST_INFO: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_come_back_from_their_record() {
        let rooms = ["chat:1".to_owned(), "news:*=join,history".to_owned()];
        let (name, info) = (Some("Ann".to_owned()), Some(r#"{ "color": 1e400 }"#.to_owned()));
        let record = Account::new(name, info, &rooms).unwrap().record();
        let account = Account::read(&record).unwrap();
        assert_eq!(account.name.as_deref(), Some("Ann"));
        assert_eq!(account.info().as_deref(), Some(r#"{ "color": 1e400 }"#));
        assert_eq!(account.grants(), Grants::from_words(rooms.iter().map(String::as_str)).ok());
        let plain = Account::new(None, None, &[]).unwrap();
        assert_eq!((plain.record().as_str(), plain.grants()), ("{}", Some(Grants::NONE)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let new = |name: Option<&str>, info: Option<&str>, room: &str| {
            let rooms = [room.to_owned()];
            Account::new(name.map(str::to_owned), info.map(str::to_owned), &rooms)
        };
        assert!(new(Some("Ann"), Some("[1]"), "a").is_ok());
        for name in ["", " ", "a\nb", "\u{1b}[31m", &"x".repeat(257)] {
            assert!(new(Some(name), None, "a").is_err(), "{name:?}");
        }
        assert!(new(None, Some("{"), "a").is_err() && new(None, None, "a=fly").is_err());
        let long = format!("\"{}\"", "x".repeat(4096));
        assert!(new(None, Some(&long), "a").is_err());
        assert!(Account::read("[]").is_none() && Account::read("").is_none());
    }
}
