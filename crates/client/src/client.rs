use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use throng_wire::{DeflateOptions, Limits};

use crate::connect;
use crate::connection::WebSocket;
use crate::error::Error;
use crate::proxy::Proxy;
use crate::subprotocols::Subprotocols;
use crate::target::Target;
#[cfg(feature = "tls")]
use crate::tls::{Roots, TlsSettings};

/// Where to connect and how. Can be used any number of times.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) subprotocols: Subprotocols,
    pub(crate) require_subprotocol: bool,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) max_redirects: u32,
    pub(crate) handshake_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) deflate: Option<DeflateOptions>,
    pub(crate) limits: Limits,
    pub(crate) send_buffer: usize,
    #[cfg(feature = "tls")]
    pub(crate) tls: TlsSettings,
    /// The first setting that could not be understood; [`connect`](Self::connect) tells.
    mistake: Option<Mistake>,
}

#[derive(Clone, Debug)]
enum Mistake {
    Proxy(&'static str),
    Header(String),
}

impl Client {
    /// A client of `url`: `ws://` or `wss://` (or `http://`, `https://` for the same), host,
    /// path and query. A user and password become basic authentication.
    ///
    /// # Errors
    ///
    /// [`Url`](Error::Url).
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            target: Target::parse(url)?,
            headers: HeaderMap::new(),
            subprotocols: Subprotocols::default(),
            require_subprotocol: true,
            proxy: None,
            max_redirects: 0,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
            deflate: None,
            limits: Limits::default(),
            send_buffer: 1 << 20,
            #[cfg(feature = "tls")]
            tls: TlsSettings::default(),
            mistake: None,
        })
    }

    /// Sends a header field with the request, such as `Authorization` or `Cookie`. The fields of
    /// the handshake itself are refused. Those two are left out when a redirect leads to another
    /// host or port.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName, Error: Into<http::Error>>,
        V: TryInto<HeaderValue, Error: Into<http::Error>>,
    {
        let name = name.try_into().map_err(Into::into);
        let value = value.try_into().map_err(Into::into);
        match name.and_then(|name| Ok((name, value?))) {
            Ok((name, mut value)) => {
                // Kept out of debug output.
                value.set_sensitive(value.is_sensitive() || SECRETS.contains(&name));
                self.headers.append(name, value);
                self
            }
            Err(error) => self.mistaken(Mistake::Header(error.to_string())),
        }
    }

    /// Sends `Origin`, as a browser does for its page. Default: none.
    pub fn origin(mut self, origin: &str) -> Self {
        match HeaderValue::from_str(origin) {
            Ok(value) => {
                self.headers.insert(header::ORIGIN, value);
                self
            }
            Err(error) => self.mistaken(Mistake::Header(error.to_string())),
        }
    }

    /// Offers a subprotocol, after those offered before. Default: none. One that begins with `ticket.`,
    /// `token.` or `resume.` is a credential of a throng server: debug output does not show it, and it
    /// is left out when a redirect leads to another host or port.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Whether a server that chooses none of the offered subprotocols is refused, as browsers
    /// do. Default true.
    pub fn require_subprotocol(mut self, required: bool) -> Self {
        self.require_subprotocol = required;
        self
    }

    /// Goes through the HTTP proxy `http://user:password@host:port` by `CONNECT`; user and
    /// password may be left out. The proxy looks the host up. Default: none; the environment is
    /// not consulted.
    pub fn proxy(mut self, url: &str) -> Self {
        match Proxy::parse(url) {
            Ok(proxy) => {
                self.proxy = Some(proxy);
                self
            }
            Err(why) => self.mistaken(Mistake::Proxy(why)),
        }
    }

    /// Follows up to so many redirects (301, 302, 303, 307, 308), but never from `wss://` to
    /// `ws://`. Default 0: a redirect is a refusal, as in browsers.
    ///
    /// Whoever answers decides where the client connects next: dangerous if the server is not
    /// trusted and the client stands in a network that it should not reach into.
    pub fn max_redirects(mut self, limit: u32) -> Self {
        self.max_redirects = limit;
        self
    }

    /// How long [`connect`](Self::connect) may take, from looking the host up to the server's
    /// answer, proxy and redirects included. Default 10 seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long the closing handshake may take before the connection is cut off. Default 10
    /// seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Offers permessage-deflate (RFC 7692). Default: not.
    pub fn deflate(mut self, options: DeflateOptions) -> Self {
        self.deflate = Some(options);
        self
    }

    /// How large received frames and messages may be. Default 16 MiB each.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many bytes may be queued before sending waits. A single message may go over it, so
    /// the memory is bounded by this and the longest message, twice while it is being written.
    /// Default 1 MiB.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes;
        self
    }

    /// Trusts the certificate authorities of the operating system in place of Mozilla's, which
    /// are compiled in.
    #[cfg(feature = "tls")]
    pub fn native_roots(mut self) -> Self {
        self.tls.roots = Roots::Native;
        self
    }

    /// Trusts these certificate authorities alone: one or more certificates in PEM.
    #[cfg(feature = "tls")]
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.roots = Roots::Pem(pem.into());
        self
    }

    /// Shows a certificate to the server: the chain and its private key, both in PEM.
    #[cfg(feature = "tls")]
    pub fn identity_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.identity = Some((chain.into(), key.into()));
        self
    }

    /// Opens a connection. Has to be called in a tokio runtime with IO and time.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from opening, and first of all settings that cannot be used.
    pub async fn connect(&self) -> Result<WebSocket, Error> {
        match &self.mistake {
            Some(Mistake::Proxy(why)) => return Err(Error::ProxyUrl(why)),
            Some(Mistake::Header(why)) => return Err(Error::Header(why.clone())),
            None => {}
        }
        tokio::time::timeout(self.handshake_timeout, connect::open(self))
            .await
            .unwrap_or(Err(Error::HandshakeTimeout))
    }

    /// Notes the first mistake.
    fn mistaken(mut self, mistake: Mistake) -> Self {
        self.mistake.get_or_insert(mistake);
        self
    }
}

/// The fields that are for one server only.
pub(crate) const SECRETS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_tells_no_secrets() {
        let client = Client::new("wss://joe:hunter2@example.org/ws?ticket=hunter2")
            .unwrap()
            .subprotocol("throng.v1")
            .subprotocol("ticket.hunter2")
            .header("authorization", "hunter2")
            .header("cookie", "hunter2")
            .header("x-open", "visible")
            .proxy("http://joe:hunter2@proxy.example:1");
        #[cfg(feature = "tls")]
        let client = client.identity_pem("hunter2", "hunter2");
        let text = format!("{client:?}");
        assert!(text.contains("visible") && text.contains("proxy.example"), "{text}");
        assert!(text.contains("wss://example.org/ws?…") && text.contains("throng.v1"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        assert!(!text.contains("am9lOmh1bnRlcjI"), "{text}");
    }
}
