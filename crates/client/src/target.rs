//! Where a connection goes: a URL taken apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use url::{Host, Url};

use crate::error::Error;

/// A `ws://` or `wss://` URL that has been checked.
#[derive(Clone)]
pub(crate) struct Target {
    url: Url,
    tls: bool,
}

impl std::fmt::Debug for Target {
    /// Without what may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(without_query(&self.public_url()))?;
        f.write_str(if self.url.query().is_some() { "?…" } else { "" })
    }
}

impl Target {
    /// Reads a URL that the caller gave.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let url = Url::parse(text).map_err(|_| Error::Url("it is not an absolute URL"))?;
        Self::check(url).map_err(Error::Url)
    }

    /// Where a redirect leads. It never leads from TLS to plain text.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, Error> {
        let url = self.url.join(location).map_err(|_| Error::Redirect("its Location is no URL"))?;
        // A fragment is for the browser and does not travel (RFC 9110 §10.2.2).
        let target = Self::check(without_fragment(url)).map_err(Error::Redirect)?;
        if self.tls && !target.tls {
            return Err(Error::Redirect("it leads from wss:// to ws://"));
        }
        Ok(target)
    }

    fn check(mut url: Url) -> Result<Self, &'static str> {
        let tls = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err("its scheme is none of ws, wss, http and https"),
        };
        if url.fragment().is_some() {
            return Err("it has a fragment");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it has no host");
        }
        if url.set_scheme(if tls { "wss" } else { "ws" }).is_err() {
            return Err("its scheme cannot be that of a WebSocket");
        }
        Ok(Self { url, tls })
    }

    /// Whether TLS is spoken.
    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    /// The URL without user and password.
    pub(crate) fn public_url(&self) -> String {
        let mut url = self.url.clone();
        // Fails only for URLs without host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }

    /// The host as a name or address, an IPv6 one without brackets.
    pub(crate) fn host(&self) -> String {
        host(&self.url)
    }

    /// The port to connect to.
    pub(crate) fn port(&self) -> u16 {
        self.url.port().unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// The value of `Host`: with a port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Host and port, always both: what a proxy is asked for.
    pub(crate) fn host_and_port(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap_or_default(), self.port())
    }

    /// Path and query.
    pub(crate) fn path(&self) -> String {
        let path = match self.url.path() {
            "" => "/",
            path => path,
        };
        match self.url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }

    /// Adds a parameter to the query.
    pub(crate) fn add_query(&mut self, name: &str, value: &str) {
        self.url.query_pairs_mut().append_pair(name, value);
    }

    /// The user and password of the URL as a value of `Authorization`.
    pub(crate) fn credentials(&self) -> Option<HeaderValue> {
        credentials(&self.url)
    }

    /// Whether `other` is the same server, so that it may see the same secrets.
    pub(crate) fn same_server(&self, other: &Self) -> bool {
        self.url.host() == other.url.host() && self.port() == other.port()
    }
}

/// The host of `url` as a name or address, an IPv6 one without brackets.
pub(crate) fn host(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Domain(name)) => name.to_owned(),
        None => String::new(),
    }
}

/// The user and password of `url` as basic authentication (RFC 7617).
pub(crate) fn credentials(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = unescape(url.username());
    pair.push(b':');
    pair.extend(unescape(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A URL up to its query, in which there may be credentials.
pub(crate) fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(before, _)| before)
}

fn without_fragment(mut url: Url) -> Url {
    url.set_fragment(None);
    url
}

/// The bytes behind `%XX`; what is none stays as it is.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = match rest {
            [b'%', high, low, ..] => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                digit(high).zip(digit(low)).and_then(|(h, l)| u8::try_from(h * 16 + l).ok())
            }
            _ => None,
        };
        out.push(digits.unwrap_or(*first));
        rest = if digits.is_some() { &rest[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        let plain = target("ws://Example.org/chat?a=b c");
        assert_eq!((plain.tls(), plain.host().as_str(), plain.port()), (false, "example.org", 80));
        assert_eq!(plain.authority(), "example.org");
        assert_eq!(plain.host_and_port(), "example.org:80");
        assert_eq!(plain.path(), "/chat?a=b%20c");

        let tls = target("wss://user:p%40ss@[::1]:8443");
        assert_eq!((tls.tls(), tls.host().as_str(), tls.port()), (true, "::1", 8443));
        assert_eq!(tls.authority(), "[::1]:8443");
        assert_eq!(tls.path(), "/");
        assert_eq!(tls.credentials().unwrap(), "Basic dXNlcjpwQHNz");
        assert_eq!(tls.public_url(), "wss://[::1]:8443/");

        assert_eq!(target("ws://a:80/").authority(), "a");
        assert_eq!(target("wss://a:80/").authority(), "a:80");
        assert_eq!(target("https://a/").public_url(), "wss://a/");
        assert_eq!(target("ws://b\u{fc}cher.example/").host(), "xn--bcher-kva.example");
    }

    #[test]
    fn urls_that_are_none_of_ours() {
        for (url, why) in [
            ("", "it is not an absolute URL"),
            ("/chat", "it is not an absolute URL"),
            ("ws://", "it is not an absolute URL"),
            ("ws://a b/", "it is not an absolute URL"),
            ("ws://a:99999/", "it is not an absolute URL"),
            ("ftp://a/", "its scheme is none of ws, wss, http and https"),
            ("ws://a/#", "it has a fragment"),
            ("ws://a/#b", "it has a fragment"),
        ] {
            let Err(Error::Url(found)) = Target::parse(url) else { panic!("{url}") };
            assert_eq!(found, why, "{url}");
        }
    }

    #[test]
    fn redirects_are_relative_and_never_give_up_tls() {
        let from = target("wss://a.example/x/y?z");
        let to = |location| from.redirect(location).map(|to| to.public_url());
        assert_eq!(to("/b").unwrap(), "wss://a.example/b");
        assert_eq!(to("c#top").unwrap(), "wss://a.example/x/c");
        assert_eq!(to("//b.example:1/").unwrap(), "wss://b.example:1/");
        assert_eq!(to("https://b.example/").unwrap(), "wss://b.example/");
        for location in ["ws://a.example/", "http://a.example/", "ftp://a.example/", "ws://:1:2"] {
            assert!(matches!(to(location), Err(Error::Redirect(_))), "{location}");
        }
        assert!(target("ws://a/").redirect("https://a/").unwrap().tls());
    }

    #[test]
    fn parameters_are_added_to_the_query() {
        for (url, path) in [
            ("ws://h/ws", "/ws?name=A%26+%C3%A9&x="),
            ("ws://h/ws?a=1", "/ws?a=1&name=A%26+%C3%A9&x="),
        ] {
            let mut target = target(url);
            target.add_query("name", "A& \u{e9}");
            target.add_query("x", "");
            assert_eq!(target.path(), path);
        }
    }

    #[test]
    fn a_server_is_host_and_port() {
        let same = |a, b| target(a).same_server(&target(b));
        assert!(same("ws://a/x", "ws://A:80/y"));
        assert!(!same("ws://a/", "ws://b/"));
        assert!(!same("ws://a/", "ws://a:81/"));
        assert!(!same("ws://a/", "wss://a/"));
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a%20b%4"), b"a b%4");
        assert_eq!(unescape("%C3%A4%zz%"), "\u{e4}%zz%".as_bytes());
    }
}
