//! The client's side of the opening handshake (RFC 6455 §4.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use super::header::{Extensions, is, is_token, lists_token, single, too_long, trim};
use super::{VERSION, key};
use crate::extension::{Deflate, DeflateOptions, PERMESSAGE_DEFLATE};

/// Begins the request to `target` (path and query) of the server `host` (with its port, where
/// that is not the scheme's own).
///
/// # Errors
///
/// When `host` is no authority, has a user or password in it, or `target` does not begin with
/// a slash and hold to the grammar of a path.
pub fn request(host: &str, target: &str) -> Result<RequestBuilder, InvalidRequest> {
    let authority: Authority = host.parse().map_err(|_| InvalidRequest::Host)?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(InvalidRequest::Host);
    }
    let target: PathAndQuery = target.parse().map_err(|_| InvalidRequest::Target)?;
    if !target.as_str().starts_with('/') {
        return Err(InvalidRequest::Target);
    }
    let host = HeaderValue::from_str(host).map_err(|_| InvalidRequest::Host)?;
    Ok(RequestBuilder {
        host,
        target,
        headers: HeaderMap::new(),
        subprotocols: Vec::new(),
        subprotocol_required: true,
        deflate: None,
    })
}

/// An opening handshake that is being put together.
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    host: HeaderValue,
    target: PathAndQuery,
    headers: HeaderMap,
    subprotocols: Vec<String>,
    subprotocol_required: bool,
    deflate: Option<DeflateOptions>,
}

impl RequestBuilder {
    /// Adds a header field, such as `Origin`, `Authorization` or `Cookie`.
    ///
    /// # Errors
    ///
    /// The fields of the handshake itself are not the caller's: `Host`, `Upgrade`,
    /// `Connection`, `Sec-WebSocket-*`, and those that announce a body.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Result<Self, InvalidRequest> {
        if is_reserved(&name) {
            return Err(InvalidRequest::ReservedHeader(name));
        }
        self.headers.append(name, value);
        Ok(self)
    }

    /// Offers a subprotocol, after those offered before, which are preferred to it.
    ///
    /// # Errors
    ///
    /// When `name` is no token or was offered before.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, InvalidRequest> {
        if !is_token(name.as_bytes()) || self.subprotocols.iter().any(|seen| seen == name) {
            return Err(InvalidRequest::Subprotocol(name.to_owned()));
        }
        self.subprotocols.push(name.to_owned());
        Ok(self)
    }

    /// Whether a server that chooses none of the offered subprotocols is refused, as browsers
    /// do. Default true.
    pub fn require_subprotocol(mut self, required: bool) -> Self {
        self.subprotocol_required = required;
        self
    }

    /// Offers permessage-deflate. Default `None`.
    pub fn deflate(mut self, options: Option<DeflateOptions>) -> Self {
        self.deflate = options;
        self
    }

    /// The request, and what its response will be measured by.
    ///
    /// `nonce` has to be unpredictable and new for every request (RFC 6455 §10.3).
    pub fn build(self, nonce: [u8; 16]) -> (Request<()>, Verifier) {
        let key = key::encode(nonce);
        let mut request = Request::new(());
        *request.method_mut() = Method::GET;
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(self.target);
        let fields = request.headers_mut();
        fields.insert(header::HOST, self.host);
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(
            header::SEC_WEBSOCKET_KEY,
            HeaderValue::from_bytes(&key).expect("invariant: base64 is printable ASCII"),
        );
        fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        if !self.subprotocols.is_empty() {
            fields.insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::try_from(self.subprotocols.join(", "))
                    .expect("invariant: tokens are printable ASCII"),
            );
        }
        if let Some(deflate) = &self.deflate {
            fields.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate.offer());
        }
        fields.extend(self.headers);
        let verifier = Verifier {
            answer: key::answer(&key),
            subprotocol_required: self.subprotocol_required && !self.subprotocols.is_empty(),
            subprotocols: self.subprotocols,
            deflate: self.deflate,
        };
        (request, verifier)
    }
}

/// Appends `request` as it travels: the request line and the header fields.
///
/// The fields of the handshake are spelled as in RFC 6455, for servers that do not know that
/// case is not significant.
pub fn encode(request: &Request<()>, out: &mut Vec<u8>) {
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        let spelled = SPELLED
            .iter()
            .find(|spelled| spelled.eq_ignore_ascii_case(name.as_str()))
            .copied()
            .unwrap_or(name.as_str());
        for part in [spelled.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What the response to one request has to say.
#[derive(Clone, Debug)]
pub struct Verifier {
    answer: [u8; 28],
    subprotocols: Vec<String>,
    subprotocol_required: bool,
    deflate: Option<DeflateOptions>,
}

impl Verifier {
    /// Checks every field of the response (RFC 6455 §4.1).
    ///
    /// # Errors
    ///
    /// The first rule that the response breaks, in the order of the variants of
    /// [`HandshakeError`]. The connection is of no use then and has to be closed.
    pub fn verify(&self, response: &Response<()>) -> Result<Agreed, HandshakeError> {
        let headers = response.headers();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(HandshakeError::Status(response.status()));
        }
        if response.version() != Version::HTTP_11 {
            return Err(HandshakeError::HttpVersion);
        }
        match single(headers, &header::UPGRADE) {
            Ok(Some(value)) if is(value.as_bytes(), b"websocket") => {}
            _ => return Err(HandshakeError::Upgrade),
        }
        if !lists_token(headers, &header::CONNECTION, "upgrade") {
            return Err(HandshakeError::Connection);
        }
        match single(headers, &header::SEC_WEBSOCKET_ACCEPT) {
            Ok(Some(value)) if trim(value.as_bytes()) == self.answer => {}
            _ => return Err(HandshakeError::Accept),
        }
        Ok(Agreed { subprotocol: self.subprotocol(headers)?, deflate: self.deflate(headers)? })
    }

    fn subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, HandshakeError> {
        match single(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
            Ok(None) if self.subprotocol_required => Err(HandshakeError::SubprotocolMissing),
            Ok(None) => Ok(None),
            Ok(Some(value)) => {
                let value = trim(value.as_bytes());
                let ours = self.subprotocols.iter().find(|ours| ours.as_bytes() == value);
                ours.cloned().map(Some).ok_or(HandshakeError::SubprotocolUnsolicited)
            }
            Err(_) => Err(HandshakeError::SubprotocolUnsolicited),
        }
    }

    fn deflate(&self, headers: &HeaderMap) -> Result<Option<Deflate>, HandshakeError> {
        if too_long(headers, &header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(HandshakeError::ExtensionsMalformed);
        }
        let mut agreed = None;
        for extension in
            headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter().flat_map(Extensions::new)
        {
            let extension = extension.map_err(|_| HandshakeError::ExtensionsMalformed)?;
            let Some(ours) = &self.deflate else {
                return Err(HandshakeError::ExtensionUnsolicited);
            };
            if extension.name != PERMESSAGE_DEFLATE || agreed.is_some() {
                return Err(HandshakeError::ExtensionUnsolicited);
            }
            let deflate = ours.agree(extension.params).ok_or(HandshakeError::DeflateParameters)?;
            agreed = Some(deflate);
        }
        Ok(agreed)
    }
}

/// What client and server agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The subprotocol, one of those offered.
    pub subprotocol: Option<String>,
    /// The compression, if offered and accepted.
    pub deflate: Option<Deflate>,
}

/// Why a request cannot be built: the caller's mistake.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The host is no `host` or `host:port`.
    #[error("the host is not a valid one")]
    Host,
    /// The target is no path with an optional query.
    #[error("the request target has to be a path that begins with a slash")]
    Target,
    /// The field belongs to the handshake.
    #[error("the header {0} belongs to the handshake and cannot be set")]
    ReservedHeader(HeaderName),
    /// No token, or offered twice.
    #[error("the subprotocol {0:?} is not a token, or is offered twice")]
    Subprotocol(String),
}

/// Why a response does not complete the handshake: the server's mistake, or its refusal.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Another status than 101.
    #[error("the server answered {0} instead of switching to WebSocket")]
    Status(StatusCode),
    /// Another version of HTTP than 1.1.
    #[error("the server answered in another version of HTTP than 1.1")]
    HttpVersion,
    /// `Upgrade` is not `websocket`, once.
    #[error("the response lacks the header Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not list `upgrade`.
    #[error("the response lacks the header Connection: Upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` does not answer our key: often a cache, or no WebSocket server.
    #[error("Sec-WebSocket-Accept does not answer the key of this request")]
    Accept,
    /// Subprotocols were offered and none was chosen.
    #[error("the server chose none of the offered subprotocols")]
    SubprotocolMissing,
    /// A subprotocol that was not offered, or several.
    #[error("the server chose a subprotocol that was not offered")]
    SubprotocolUnsolicited,
    /// `Sec-WebSocket-Extensions` does not follow its grammar, or is too long.
    #[error("the Sec-WebSocket-Extensions of the response is malformed")]
    ExtensionsMalformed,
    /// An extension that was not offered, or one twice.
    #[error("the server chose an extension that was not offered")]
    ExtensionUnsolicited,
    /// Parameters of permessage-deflate that do not answer the offer.
    #[error("the server chose parameters of permessage-deflate that do not answer the offer")]
    DeflateParameters,
}

fn is_reserved(name: &HeaderName) -> bool {
    SPELLED.iter().any(|ours| ours.eq_ignore_ascii_case(name.as_str()))
        || *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::SEC_WEBSOCKET_ACCEPT
}

/// The fields of the request that are ours, as RFC 6455 spells them.
const SPELLED: [&str; 7] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
];
