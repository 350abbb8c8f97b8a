//! The subprotocols that are offered, some of which are secrets.

use std::fmt;

/// What is offered, in this order.
///
/// A credential can travel as `ticket.<value>`, `token.<value>` or `resume.<value>`: other than a query,
/// that is in no access log. Debug output shows no more than which it is.
#[derive(Clone, Default)]
pub(crate) struct Subprotocols(Vec<String>);

/// What a server is shown to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Ticket,
    Token,
    Resume,
}

impl Credential {
    /// Its name, in front of the dot and in a query.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Token => "token",
            Self::Resume => "resume",
        }
    }

    /// As a subprotocol, unless its characters or its length do not allow that.
    pub(crate) fn subprotocol(self, value: &str) -> Option<String> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let fits = value.len() <= MAX_VALUE && value.bytes().all(is_token);
        fits.then(|| format!("{}.{value}", self.name()))
    }

    /// Which one a subprotocol is, if any.
    fn of(subprotocol: &str) -> Option<Self> {
        let (name, _) = subprotocol.split_once('.')?;
        [Self::Ticket, Self::Token, Self::Resume].into_iter().find(|it| it.name() == name)
    }
}

impl Subprotocols {
    pub(crate) fn push(&mut self, name: String) {
        self.0.push(name);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Only what any server may know.
    pub(crate) fn without_credentials(mut self) -> Self {
        self.0.retain(|name| Credential::of(name).is_none());
        self
    }
}

impl fmt::Debug for Subprotocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|name| shown(name))).finish()
    }
}

/// A subprotocol for people to read.
pub(crate) fn shown(subprotocol: &str) -> &str {
    Credential::of(subprotocol).map_or(subprotocol, |credential| credential.name())
}

/// Servers read some 4 KiB of the header.
const MAX_VALUE: usize = 3000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_a_header() {
        let jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.x_-y";
        assert_eq!(Credential::Token.subprotocol(jwt), Some(format!("token.{jwt}")));
        assert_eq!(Credential::Ticket.subprotocol("t_abc").as_deref(), Some("ticket.t_abc"));
        for value in ["a b", "a,b", "é", "a=", &"x".repeat(3001)] {
            assert_eq!(Credential::Resume.subprotocol(value), None, "{value}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let mut offered = Subprotocols::default();
        for name in ["throng.v1", "ticket.hunter2", "token.hunter2", "resume.hunter2", "tickets"] {
            offered.push(name.to_owned());
        }
        let text = format!("{offered:?}");
        assert_eq!(text, r#"["throng.v1", "ticket", "token", "resume", "tickets"]"#);
        let left = offered.without_credentials();
        assert!(left.iter().eq(["throng.v1", "tickets"]));
    }
}
