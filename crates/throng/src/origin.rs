//! Which pages may connect (RFC 6455 §10.2).

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

/// From which pages browsers may open a connection.
///
/// A page anywhere can open a WebSocket to any server, and the browser sends the server's cookies
/// along; only the `Origin` header tells. Requests without it do not come from a browser's page
/// and are always let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages from anywhere.
    Any,
    /// Pages whose host and port are those of the `Host` header.
    #[default]
    SameHost,
    /// Pages of these origins and no others, such as `https://example.org`: scheme, host, and
    /// the port unless it is the scheme's own. The only choice that DNS rebinding can't get
    /// round, because it does not trust the `Host` header.
    List(Vec<String>),
}

impl Origins {
    /// Whether a request with these headers may connect. Several `Origin` headers never may.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        if *self == Self::Any {
            return true;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let (origin, None) = (origins.next(), origins.next()) else { return false };
        let Some(origin) = origin else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        match self {
            Self::Any => true,
            Self::SameHost => is_same_host(origin, headers),
            Self::List(list) => list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
        }
    }
}

fn is_same_host(origin: &str, headers: &HeaderMap) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let (Some(scheme), Some(page)) = (origin.scheme_str(), origin.authority()) else {
        return false;
    };
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let without_default = |authority: &str| {
        authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase()
    };
    without_default(page.as_str()) == without_default(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(origins: &Origins, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        origins.allow(&headers)
    }

    #[test]
    fn same_host_compares_host_and_port() {
        let same = Origins::SameHost;
        assert!(allow(&same, "chat.example:3000", Some("http://chat.example:3000")));
        assert!(allow(&same, "chat.example", Some("https://Chat.Example:443")));
        assert!(allow(&same, "chat.example:80", Some("http://chat.example")));
        assert!(allow(&same, "[::1]:3000", Some("http://[::1]:3000")));
        assert!(allow(&same, "chat.example", None));
        assert!(!allow(&same, "chat.example:3000", Some("http://chat.example:8080")));
        assert!(!allow(&same, "chat.example", Some("http://chat.example.evil.test")));
        assert!(!allow(&same, "chat.example", Some("null")));
        assert!(!allow(&same, "chat.example", Some("")));
        assert!(!allow(&same, "chat.example", Some("http://evil.test#chat.example")));
    }

    #[test]
    fn a_list_is_exact() {
        let list = Origins::List(vec!["https://app.example".into()]);
        assert!(allow(&list, "chat.example", Some("https://app.example")));
        assert!(!allow(&list, "chat.example", Some("https://chat.example")));
        assert!(!allow(&list, "chat.example", Some("http://app.example")));
        assert!(!allow(&list, "chat.example", Some("https://app.example.evil.test")));
        assert!(allow(&Origins::Any, "chat.example", Some("null")));
    }

    #[test]
    fn two_origins_are_none() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "a.example".parse().unwrap());
        headers.append(ORIGIN, "http://a.example".parse().unwrap());
        headers.append(ORIGIN, "http://evil.test".parse().unwrap());
        assert!(!Origins::SameHost.allow(&headers));
    }
}
