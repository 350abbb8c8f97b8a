//! A way through an HTTP proxy, by `CONNECT` (RFC 9110 §9.3.6).

use http::header::HeaderValue;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use url::Url;

use crate::error::Error;
use crate::head::{self, Head, HeadError};
use crate::target::{self, Target};

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    credentials: Option<HeaderValue>,
}

impl Proxy {
    /// Reads `http://user:password@host:port`; user and password may be missing.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "it is not an absolute URL")?;
        if url.scheme() != "http" {
            return Err("its scheme is not http");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("there is something behind the host and port");
        }
        Ok(Self {
            host: target::host(&url),
            port: url.port().unwrap_or(80),
            credentials: target::credentials(&url),
        })
    }

    /// Makes `stream`, which leads to the proxy, lead to `target`.
    pub(crate) async fn tunnel(
        &self,
        stream: &mut TcpStream,
        target: &Target,
    ) -> Result<(), Error> {
        let to = target.host_and_port();
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        if let Some(credentials) = &self.credentials {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(credentials.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(Error::Io)?;
        let Head { response, rest } = head::read(stream).await.map_err(|error| match error {
            HeadError::Io(error) => Error::Io(error),
            HeadError::Unusable(why) => Error::ProxyResponse(why),
        })?;
        if !response.status().is_success() {
            return Err(Error::ProxyRefused(response.status()));
        }
        // The server does not speak first, so nothing can be in the tunnel yet.
        if !rest.is_empty() {
            return Err(Error::ProxyResponse("there is something behind its head"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_from_urls() {
        let proxy = Proxy::parse("http://us%20er:pw@[::1]:3128").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 3128));
        assert_eq!(proxy.credentials.unwrap(), "Basic dXMgZXI6cHc=");
        let proxy = Proxy::parse("http://proxy.example/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 80));
        assert_eq!(proxy.credentials, None);
    }

    #[test]
    fn proxies_of_other_kinds_are_not_understood() {
        for (url, why) in [
            ("proxy:3128", "its scheme is not http"),
            ("3128", "it is not an absolute URL"),
            ("socks5://a:1", "its scheme is not http"),
            ("https://a:1", "its scheme is not http"),
            ("http://a:1/x", "there is something behind the host and port"),
            ("http://a:1/?x", "there is something behind the host and port"),
        ] {
            assert_eq!(Proxy::parse(url).err(), Some(why), "{url}");
        }
    }
}
