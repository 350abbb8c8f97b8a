use std::fmt;

use throng_protocol::{is_value, names, write_string};

/// Who is behind a connection: user, session, and what others see of the user.
///
/// Meant to live behind one `Arc` per connection. Everything is kept in one string: with an id
/// and a session of ours and a short name an identity takes two allocations and about
/// 120 bytes, the `Arc` included.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id, session id, name and info, one behind the other.
    text: Box<str>,
    /// Where the first three end.
    ends: [u32; 3],
}

impl Identity {
    /// An anonymous visitor. `name`, already made presentable by
    /// [`names::display_name`](throng_protocol::names::display_name), becomes the info
    /// `{"name":…}`; without one there is no info.
    pub fn anonymous(user_id: &str, session_id: &str, name: Option<&str>) -> Self {
        let info = name.map(|name| {
            let mut info = br#"{"name":"#.to_vec();
            write_string(&mut info, name);
            info.push(b'}');
            String::from_utf8(info).expect("invariant: the JSON of text is text")
        });
        Self::assemble([user_id, session_id, name.unwrap_or(""), info.as_deref().unwrap_or("")])
    }

    /// Somebody the application knows, with what others are to see as raw JSON.
    ///
    /// # Errors
    /// When the user id is not one ([`names::is_user`]), the info is not a JSON value, or one
    /// of them is too long: see [`IdentityError`].
    pub fn known(
        user_id: &str,
        session_id: &str,
        name: Option<&str>,
        info: Option<&str>,
    ) -> Result<Self, IdentityError> {
        if !names::is_user(user_id) {
            return Err(IdentityError::UserId);
        }
        if info.is_some_and(|info| info.len() > MAX_INFO) {
            return Err(IdentityError::InfoTooLarge);
        }
        if info.is_some_and(|info| !is_value(info)) {
            return Err(IdentityError::Info);
        }
        let info = info.unwrap_or("").trim();
        Ok(Self::assemble([user_id, session_id, name.unwrap_or(""), info]))
    }

    /// The id of the user.
    pub fn user_id(&self) -> &str {
        self.part(0)
    }

    /// The id of the session; empty when there is none.
    pub fn session_id(&self) -> &str {
        self.part(1)
    }

    /// The name people see.
    pub fn name(&self) -> Option<&str> {
        Some(self.part(2)).filter(|name| !name.is_empty())
    }

    /// What others see of the user, as raw JSON.
    pub fn info(&self) -> Option<&str> {
        Some(self.part(3)).filter(|info| !info.is_empty())
    }

    /// From user id, session id, name and info.
    pub(crate) fn assemble(parts: [&str; 4]) -> Self {
        let mut ends = [0; 3];
        let mut end = 0;
        for (mark, part) in ends.iter_mut().zip(parts) {
            end += part.len();
            *mark = u32::try_from(end).expect("invariant: ids and names are far below 4 GiB");
        }
        Self { text: parts.concat().into_boxed_str(), ends }
    }

    fn part(&self, part: usize) -> &str {
        let start = if part == 0 { 0 } else { self.ends[part - 1] as usize };
        let end = self.ends.get(part).map_or(self.text.len(), |&end| end as usize);
        &self.text[start..end]
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user_id", &self.user_id())
            .field("session_id", &self.session_id())
            .field("name", &self.name())
            .field("info", &self.info())
            .finish()
    }
}

/// Why somebody cannot be presented to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// The user id is empty, longer than 127 bytes, or has bytes no room name may have.
    UserId,
    /// The info is not one JSON value.
    Info,
    /// The info is longer than 4 KiB: every member of every room would get it.
    InfoTooLarge,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserId => "a user id is 1 to 127 characters of A-Z a-z 0-9 _ . : @ / -",
            Self::Info => "the info of a user must be one JSON value",
            Self::InfoTooLarge => "the info of a user must not be longer than 4096 bytes",
        })
    }
}

impl std::error::Error for IdentityError {}

const MAX_INFO: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let who = Identity::anonymous("u_1", "s_1", Some("Cra\"ig"));
        assert_eq!((who.user_id(), who.session_id()), ("u_1", "s_1"));
        assert_eq!(who.name(), Some("Cra\"ig"));
        assert_eq!(who.info(), Some(r#"{"name":"Cra\"ig"}"#));
        let who = Identity::anonymous("u_1", "", None);
        assert_eq!((who.session_id(), who.name(), who.info()), ("", None, None));
        let who = Identity::known("u_1", "s_1", None, Some(" [1] ")).unwrap();
        assert_eq!((who.name(), who.info()), (None, Some("[1]")));
    }

    #[test]
    fn what_cannot_be_presented_is_refused() {
        let error = |user_id, info| Identity::known(user_id, "s_1", None, info).unwrap_err();
        assert_eq!(error("", None), IdentityError::UserId);
        assert_eq!(error("a b", None), IdentityError::UserId);
        assert_eq!(error("u_1", Some("")), IdentityError::Info);
        assert_eq!(error("u_1", Some("{}}")), IdentityError::Info);
        assert_eq!(error("u_1", Some(r#""\ud800""#)), IdentityError::Info);
        let long = format!("\"{}\"", "x".repeat(MAX_INFO));
        assert_eq!(error("u_1", Some(&long)), IdentityError::InfoTooLarge);
    }

    #[test]
    fn small() {
        assert_eq!(size_of::<Identity>(), 32);
    }
}
