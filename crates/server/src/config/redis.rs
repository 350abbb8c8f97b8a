//! Words about the Redis that servers share, and about how they do.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::units::{self, Expected, Unit, Value, quoted};

/// Servers, sentinels or nodes; none: this server is on its own. Without names and passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RedisUrls(Vec<String>);

/// How they belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisMode {
    /// Each is on its own.
    Single,
    /// They know the primary.
    Sentinel,
    /// They are nodes of one cluster.
    Cluster,
}

/// What keys begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(pub(crate) String);

/// Over how long clients are sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// As it fits: whether there are others that take them.
    Auto,
    /// This long.
    Fixed(Duration),
}

impl RedisUrls {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Hosts elsewhere, but for those where `is_fine` holds for the URL.
    pub(crate) fn remote_hosts(&self, is_fine: impl Fn(&str) -> bool) -> Vec<&str> {
        let hosts = self.iter().filter(|url| !is_fine(url)).filter_map(host);
        hosts.filter(|host| !is_local(host)).collect()
    }
}

/// Whether what is sent there can be read and changed on the way.
pub(crate) fn is_plain(url: &str) -> bool {
    url.starts_with("redis://")
}

/// `HOST` of `redis://HOST:PORT/N`, if that is what it is.
fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"))?;
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':')))?,
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = match authority.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.bytes().all(fits)
        }
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (is_host && port_fits && is_number(database) && database.len() < 5).then_some(host)
}

fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

impl Unit for RedisUrls {
    fn read(value: &Value) -> Result<Self, Expected> {
        let expected = || {
            "a list of URLs such as redis://127.0.0.1:6379 or rediss://redis.internal:6380/0, without name and \
             password in it: these are redis.username and redis.password_file"
                .to_owned()
        };
        let items: Vec<&str> = match value {
            Value::Text(text) => text
                .split(|c: char| c.is_whitespace() || c == ',')
                .filter(|item| !item.is_empty())
                .collect(),
            Value::List(items) => items.iter().map(|item| item.trim()).collect(),
            _ => return Err(expected()),
        };
        match items.iter().all(|item| host(item).is_some()) {
            true => Ok(Self(items.into_iter().map(str::to_owned).collect())),
            false => Err(expected()),
        }
    }

    fn write(&self) -> String {
        let urls: Vec<String> = self.0.iter().map(|url| quoted(url)).collect();
        format!("[{}]", urls.join(", "))
    }
}

impl Unit for RedisMode {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("single") => Ok(Self::Single),
            Some("sentinel") => Ok(Self::Sentinel),
            Some("cluster") => Ok(Self::Cluster),
            _ => Err("\"single\", \"sentinel\" or \"cluster\"".into()),
        }
    }

    fn write(&self) -> String {
        quoted(match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

impl Unit for Prefix {
    fn read(value: &Value) -> Result<Self, Expected> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        value
            .word()
            .filter(|word| (1..=64).contains(&word.len()) && word.bytes().all(fits))
            .map(|word| Self(word.to_owned()))
            .ok_or_else(|| "1 to 64 characters of A-Z a-z 0-9 _ - . :".into())
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Spread {
    /// Reads one and holds it to a range.
    pub(super) fn read_within(
        value: &Value,
        range: RangeInclusive<Duration>,
    ) -> Result<Self, Expected> {
        match value.word() {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            _ => units::duration(value, range)
                .map(Self::Fixed)
                .map_err(|expected| format!("\"auto\" or {expected}")),
        }
    }

    pub(super) fn write(self) -> String {
        match self {
            Self::Auto => "\"auto\"".into(),
            Self::Fixed(time) => time.write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Result<RedisUrls, Expected> {
        RedisUrls::read(&Value::text(text))
    }

    #[test]
    fn urls_name_servers_and_nothing_secret() {
        let text = "redis://a.b:6379/2, rediss://[::1]:7 redis://localhost rediss://10.0.0.1:6380/";
        let read = urls(text).unwrap();
        assert_eq!(read.iter().count(), 4);
        assert_eq!(urls(&read.iter().collect::<Vec<_>>().join(",")).unwrap(), read);
        assert_eq!(read.remote_hosts(|_| false), ["a.b", "10.0.0.1"]);
        assert_eq!(read.remote_hosts(|url| !is_plain(url)), ["a.b"]);
        assert!(urls("").unwrap().is_empty());
        for wrong in [
            "localhost:6379",
            "http://a",
            "redis://",
            "redis://a:b@c",
            "redis://:secret@c",
            "redis://u@c",
            "redis://a:0",
            "redis://a:70000",
            "redis://a/x",
            "redis://a?b",
            "redis://[::1",
            "redis://[a]:1",
        ] {
            let expected = urls(wrong).expect_err(wrong);
            assert!(!expected.contains("secret"), "{expected}");
        }
    }

    #[test]
    fn words_come_back_the_same() {
        for word in ["single", "sentinel", "cluster"] {
            assert_eq!(RedisMode::read(&Value::text(word)).unwrap().write(), quoted(word));
        }
        let range = Duration::ZERO..=Duration::from_secs(60);
        for word in ["auto", "45s"] {
            let read = Spread::read_within(&Value::text(word), range.clone()).unwrap();
            assert_eq!(read.write(), quoted(word));
        }
        assert!(Spread::read_within(&Value::text("2m"), range).is_err());
        assert!(
            Prefix::read(&Value::text("a b")).is_err() && Prefix::read(&Value::text("")).is_err()
        );
    }
}
