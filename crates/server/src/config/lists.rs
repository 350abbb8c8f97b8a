//! Settings that are lists: grants, ranges of addresses, names of hosts.

use super::units::{Expected, Unit, Value, quoted};
use crate::client::Cidr;

/// Who may do what in which rooms: `lobby`, `demo:*`, `news:*=join,history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrantWords(Vec<String>);

/// Ranges of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cidrs(Vec<Cidr>);

/// Names of hosts that stand for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Domains(Vec<String>);

/// Hosts and ranges of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// In lower case.
    pub(crate) names: Vec<String>,
    pub(crate) ranges: Vec<Cidr>,
}

impl GrantWords {
    /// Each as written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Cidrs {
    /// All of them.
    pub(crate) fn as_slice(&self) -> &[Cidr] {
        &self.0
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Domains {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The items of a list, or of a text with blanks between (and commas, where an item can have none).
fn items(value: &Value, commas: bool) -> Option<Vec<&str>> {
    match value {
        Value::Text(text) => Some(
            text.split(|c: char| c.is_whitespace() || commas && c == ',')
                .filter(|item| !item.is_empty())
                .collect(),
        ),
        Value::List(items) => Some(items.iter().map(|item| item.trim()).collect()),
        _ => None,
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

impl Unit for GrantWords {
    fn read(value: &Value) -> Result<Self, Expected> {
        let fits = |word: &&str| is_grant(word);
        let words = items(value, false).filter(|words| words.iter().all(fits) && words.len() <= 64);
        words.map(|words| Self(words.into_iter().map(str::to_owned).collect())).ok_or_else(|| {
            "a list of at most 64 grants such as [\"lobby\", \"chat:*\", \"news:*=join,send:chat,\
             presence,history\"]"
                .into()
        })
    }

    fn write(&self) -> String {
        list(&self.0)
    }
}

/// `PATTERN` or `PATTERN=RIGHT,…`.
fn is_grant(word: &str) -> bool {
    let (pattern, rights) = match word.split_once('=') {
        Some((pattern, rights)) => (pattern, Some(rights)),
        None => (word, None),
    };
    let is_pattern = (1..=128).contains(&pattern.len())
        && pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:@/-*".contains(&b));
    let is_right = |right: &str| match right.strip_prefix("send:") {
        Some(name) => (1..=64).contains(&name.len()),
        None => ["join", "send", "presence", "history"].contains(&right),
    };
    is_pattern && rights.is_none_or(|rights| rights.split(',').all(is_right))
}

impl Unit for Cidrs {
    fn read(value: &Value) -> Result<Self, Expected> {
        let ranges = items(value, true)
            .and_then(|items| items.into_iter().map(Cidr::parse).collect::<Option<Vec<_>>>());
        ranges.map(Self).ok_or_else(|| {
            "a list of addresses and ranges such as [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]"
                .into()
        })
    }

    fn write(&self) -> String {
        list(&self.0)
    }
}

impl Unit for Domains {
    fn read(value: &Value) -> Result<Self, Expected> {
        let names = items(value, true)
            .and_then(|items| items.into_iter().map(host_name).collect::<Option<Vec<_>>>());
        names.map(Self).ok_or_else(|| "a list of names such as [\"chat.example.org\"]".into())
    }

    fn write(&self) -> String {
        list(&self.0)
    }
}

impl Unit for Hosts {
    fn read(value: &Value) -> Result<Self, Expected> {
        let expected = || {
            "a list of names of hosts and ranges of addresses such as [\"auth.internal\", \"10.0.0.0/8\"]"
                .to_owned()
        };
        let mut hosts = Self::default();
        for item in items(value, true).ok_or_else(expected)? {
            if let Some(range) = Cidr::parse(item) {
                hosts.ranges.push(range);
            } else {
                hosts.names.push(host_name(item).ok_or_else(expected)?);
            }
        }
        Ok(hosts)
    }

    fn write(&self) -> String {
        list(self.names.iter().cloned().chain(self.ranges.iter().map(Cidr::to_string)))
    }
}

/// The name of a host in lower case. What could be a mistyped address is none: a name does not end in digits.
fn host_name(text: &str) -> Option<String> {
    let name = text.to_ascii_lowercase();
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let valid = name.len() <= 253
        && name.split('.').all(fits)
        && !last.bytes().all(|byte| byte.is_ascii_digit());
    valid.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Unit>(text: &str) -> Result<T, Expected> {
        T::read(&Value::text(text))
    }

    #[test]
    fn grants_are_patterns_with_rights() {
        let grants = read::<GrantWords>("lobby demo:*\n@u_*=send news:*=join,send:chat").unwrap();
        assert_eq!(grants.write(), r#"["lobby", "demo:*", "@u_*=send", "news:*=join,send:chat"]"#);
        assert!(read::<GrantWords>("").unwrap().iter().next().is_none());
        for wrong in ["a=", "a=see", "=join", "a,b", "a=send:", "é", &"a ".repeat(65)] {
            assert!(read::<GrantWords>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_names_or_ranges() {
        let hosts = read::<Hosts>("Auth.internal, 10.0.0.0/8 ::1").unwrap();
        assert_eq!(hosts.write(), r#"["auth.internal", "10.0.0.0/8", "::1"]"#);
        assert!(read::<Hosts>("10.0.0.1/8").is_err() && read::<Hosts>("10.0.0.999").is_err());
        assert_eq!(
            read::<Cidrs>("127.0.0.0/8,::1/128").unwrap().write(),
            r#"["127.0.0.0/8", "::1"]"#
        );
        assert_eq!(read::<Domains>("A.example").unwrap().write(), r#"["a.example"]"#);
        assert!(read::<Domains>("a..example").is_err() && read::<Domains>("-a.example").is_err());
    }
}
