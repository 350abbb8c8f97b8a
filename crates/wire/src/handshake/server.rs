//! The server's side of the opening handshake (RFC 6455 §4.2).

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Version};

use super::header::{Extensions, Malformed, Tokens, is, lists_token, single, too_long, trim};
use super::{VERSION, key};
use crate::extension::{Deflate, DeflateOptions, PERMESSAGE_DEFLATE};

/// What a server is ready to agree on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerOptions<'a> {
    /// The subprotocols spoken here. Of those that the client offers too, the one it names
    /// first is chosen; none is needed. Default: none.
    pub subprotocols: &'a [&'a str],
    /// How messages may be compressed; `None` (the default): not at all.
    pub deflate: Option<&'a DeflateOptions>,
}

/// A completed handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The `101` with all its headers. The connection speaks WebSocket right after it.
    pub response: Response<()>,
    /// The subprotocol that was chosen.
    pub subprotocol: Option<String>,
    /// The compression that was agreed on.
    pub deflate: Option<Deflate>,
}

/// Checks an upgrade request and answers it (RFC 6455 §4.2.1, §4.2.2).
///
/// `Origin`, path, cookies and rights are the caller's to judge, before or after. Extensions
/// other than permessage-deflate are passed over.
///
/// Costs one SHA-1 of 60 bytes and the response's header map.
///
/// # Errors
///
/// The first rule that the request breaks, in the order of the variants of [`Refusal`].
pub fn accept(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    options: &ServerOptions<'_>,
) -> Result<Accepted, Refusal> {
    if !is_upgrade(headers) {
        return Err(Refusal::NotAnUpgrade);
    }
    if *method != Method::GET {
        return Err(Refusal::Method);
    }
    if version != Version::HTTP_11 {
        return Err(Refusal::HttpVersion);
    }
    match single(headers, &header::HOST) {
        Ok(Some(host)) if is_host(trim(host.as_bytes())) => {}
        Ok(_) => return Err(Refusal::MissingHost),
        Err(_) => return Err(Refusal::RepeatedHost),
    }
    if announces_body(headers) {
        return Err(Refusal::Body);
    }
    match single(headers, &header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if is(version.as_bytes(), VERSION.as_bytes()) => {}
        Ok(Some(_)) => return Err(Refusal::UnsupportedVersion),
        Ok(None) | Err(_) => return Err(Refusal::BadVersion),
    }
    let key = match single(headers, &header::SEC_WEBSOCKET_KEY) {
        Ok(Some(key)) if key::is_valid(trim(key.as_bytes())) => trim(key.as_bytes()),
        _ => return Err(Refusal::BadKey),
    };
    let subprotocol =
        choose_subprotocol(headers, options.subprotocols).map_err(|_| Refusal::BadSubprotocols)?;
    let deflate = choose_deflate(headers, options.deflate).map_err(|_| Refusal::BadExtensions)?;

    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        HeaderValue::from_bytes(&key::answer(key)).expect("invariant: base64 is printable ASCII"),
    );
    if let Some(name) = subprotocol {
        // A token, because it equals one.
        if let Ok(value) = HeaderValue::from_str(name) {
            fields.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    let deflate = deflate.map(|(agreed, element)| {
        fields.insert(header::SEC_WEBSOCKET_EXTENSIONS, element);
        agreed
    });
    Ok(Accepted { response, subprotocol: subprotocol.map(str::to_owned), deflate })
}

/// Whether the request asks for a WebSocket: `Connection` lists `upgrade` and `Upgrade` lists
/// `websocket`. All else is for [`accept`] to judge.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    lists_token(headers, &header::UPGRADE, "websocket")
        && lists_token(headers, &header::CONNECTION, "upgrade")
}

/// Whether a value can be `uri-host [":" port]` (RFC 9112 §3.2; the characters of RFC 3986 §3.2.2).
fn is_host(value: &[u8]) -> bool {
    let may_stand =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    !value.is_empty() && value.iter().all(may_stand)
}

/// Why a request is no opening handshake that can be accepted.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An ordinary request. 426 with `Upgrade: websocket`.
    #[error("this is a WebSocket endpoint: the request has to ask for an upgrade to websocket")]
    NotAnUpgrade,
    /// Another method than GET. 405.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// Another version of HTTP than 1.1. 400.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    HttpVersion,
    /// No `Host`, or one that names no host. 400.
    #[error("the Host header is missing, or names no host")]
    MissingHost,
    /// More than one `Host`. 400.
    #[error("the Host header is repeated")]
    RepeatedHost,
    /// `Transfer-Encoding`, or a `Content-Length` other than 0. 400.
    #[error("a WebSocket handshake has no body")]
    Body,
    /// No `Sec-WebSocket-Version`, or several. 400 with `Sec-WebSocket-Version: 13`.
    #[error("there has to be exactly one Sec-WebSocket-Version header")]
    BadVersion,
    /// Another version than 13. 426 with `Sec-WebSocket-Version: 13`.
    #[error("the only supported Sec-WebSocket-Version is 13")]
    UnsupportedVersion,
    /// No `Sec-WebSocket-Key`, several, or not 16 bytes in base64. 400.
    #[error("Sec-WebSocket-Key has to be 16 bytes in base64, once")]
    BadKey,
    /// `Sec-WebSocket-Protocol` is no list of different tokens, or too long. 400.
    #[error("Sec-WebSocket-Protocol has to be a list of different tokens")]
    BadSubprotocols,
    /// `Sec-WebSocket-Extensions` does not follow its grammar, or is too long. 400.
    #[error("Sec-WebSocket-Extensions is malformed")]
    BadExtensions,
}

impl Refusal {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotAnUpgrade | Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The whole response but a body; the text of the error is a good one.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        let fields = response.headers_mut();
        match self {
            Self::Method => {
                fields.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            Self::BadVersion => {
                fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            }
            Self::NotAnUpgrade | Self::UnsupportedVersion => {
                // A 426 names what to upgrade to (RFC 9110 §15.5.22).
                fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            }
            _ => {}
        }
        response
    }
}

/// A body would be taken for frames (RFC 9112 §6.3): only `Content-Length: 0` announces none.
fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| !is(length.as_bytes(), b"0"))
}

/// The first subprotocol of the client's list that we speak.
fn choose_subprotocol<'a>(
    headers: &HeaderMap,
    ours: &'a [&'a str],
) -> Result<Option<&'a str>, Malformed> {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    if too_long(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
        return Err(Malformed);
    }
    let offered =
        || headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().flat_map(Tokens::new).enumerate();
    let mut chosen = None;
    let mut count = 0;
    for (index, name) in offered() {
        let name = name?;
        // The list is short; going back over it is cheaper than a set.
        if index >= MAX_SUBPROTOCOLS || offered().take(index).any(|(_, seen)| seen == Ok(name)) {
            return Err(Malformed);
        }
        if chosen.is_none() {
            chosen = ours.iter().copied().find(|&ours| ours == name);
        }
        count = index + 1;
    }
    if count == 0 { Err(Malformed) } else { Ok(chosen) }
}

/// The first offer of permessage-deflate that we can accept.
fn choose_deflate(
    headers: &HeaderMap,
    ours: Option<&DeflateOptions>,
) -> Result<Option<(Deflate, HeaderValue)>, Malformed> {
    if !headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Ok(None);
    }
    if too_long(headers, &header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Malformed);
    }
    let mut chosen = None;
    let mut empty = true;
    // All of it is read, so that a malformed list is refused whatever comes first.
    for extension in
        headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter().flat_map(Extensions::new)
    {
        let extension = extension?;
        empty = false;
        if chosen.is_none() && extension.name == PERMESSAGE_DEFLATE {
            chosen = ours.and_then(|ours| ours.answer(extension.params));
        }
    }
    if empty { Err(Malformed) } else { Ok(chosen) }
}

/// The most subprotocols a client may offer.
const MAX_SUBPROTOCOLS: usize = 64;
