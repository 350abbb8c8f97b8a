//! The way to an open connection: look up, dial, proxy, TLS, handshake, redirects.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use throng_wire::handshake::client::{self as handshake, Agreed, HandshakeError, InvalidRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, SECRETS};
use crate::connection::WebSocket;
use crate::entropy;
use crate::error::Error;
use crate::head::{self, Head, HeadError, MAX_HEAD};
use crate::subprotocols::{Subprotocols, shown};
use crate::target::Target;
use crate::transport::Transport;

/// Opens the connection that `client` describes, following its redirects. The caller limits the
/// time.
pub(crate) async fn open(client: &Client) -> Result<WebSocket, Error> {
    let mut target = client.target.clone();
    let mut headers = client.headers.clone();
    let mut subprotocols = client.subprotocols.clone();
    let mut redirects = 0;
    loop {
        if let Some(credentials) = target.credentials() {
            // What the caller set, or the same server's before a redirect, comes first.
            headers.entry(header::AUTHORIZATION).or_insert(credentials);
        }
        let mut transport = establish(client, &target).await?;
        let (response, rest, verified) =
            ask(client, &target, &headers, &subprotocols, &mut transport).await?;
        match verified {
            Ok(agreed) => {
                let url = target.public_url();
                return Ok(WebSocket::new(client, transport, url, response, agreed, &rest));
            }
            Err(HandshakeError::Status(status))
                if is_redirect(status) && client.max_redirects > 0 =>
            {
                if redirects == client.max_redirects {
                    return Err(Error::TooManyRedirects(client.max_redirects));
                }
                redirects += 1;
                let next = target.redirect(location(&response)?)?;
                if !next.same_server(&target) {
                    for secret in SECRETS {
                        headers.remove(secret);
                    }
                    subprotocols = subprotocols.without_credentials();
                }
                target = next;
            }
            Err(HandshakeError::Status(_)) => {
                let body = body(&response, rest, &mut transport).await;
                return Err(Error::Refused(Box::new(response.map(|()| body))));
            }
            Err(error) => return Err(Error::Handshake(error)),
        }
    }
}

/// A stream to the server, through the proxy if there is one.
async fn establish(client: &Client, target: &Target) -> Result<Transport, Error> {
    #[cfg(not(feature = "tls"))]
    if target.tls() {
        return Err(Error::NoTls);
    }
    // Before anything is dialled, because it can be the caller's mistake.
    #[cfg(feature = "tls")]
    let connector = target.tls().then(|| client.tls.connector()).transpose()?;
    let stream = match &client.proxy {
        None => dial(&target.host(), target.port()).await.map_err(Error::Io)?,
        Some(proxy) => {
            let mut stream = dial(&proxy.host, proxy.port).await.map_err(Error::Io)?;
            proxy.tunnel(&mut stream, target).await?;
            stream
        }
    };
    #[cfg(feature = "tls")]
    if let Some(connector) = connector {
        let stream = crate::tls::handshake(&connector, target.host(), stream).await?;
        return Ok(Transport::Tls(Box::new(stream)));
    }
    Ok(Transport::Plain(stream))
}

/// Sends the request and reads the response's head.
async fn ask(
    client: &Client,
    target: &Target,
    headers: &HeaderMap,
    subprotocols: &Subprotocols,
    transport: &mut Transport,
) -> Result<(Response<()>, Vec<u8>, Result<Agreed, HandshakeError>), Error> {
    let mut builder = handshake::request(&target.authority(), &target.path())?
        .require_subprotocol(client.require_subprotocol)
        .deflate(client.deflate.clone());
    for name in subprotocols.iter() {
        let refused = |_| InvalidRequest::Subprotocol(shown(name).to_owned());
        builder = builder.subprotocol(name).map_err(refused)?;
    }
    for (name, value) in headers {
        builder = builder.header(name.clone(), value.clone())?;
    }
    let (request, verifier) = builder.build(entropy::nonce()?);
    let mut bytes = Vec::with_capacity(512);
    handshake::encode(&request, &mut bytes);
    transport.write_all(&bytes).await.map_err(Error::Io)?;
    transport.flush().await.map_err(Error::Io)?;
    let Head { response, rest } = head::read(transport).await.map_err(|error| match error {
        HeadError::Io(error) => Error::Io(error),
        HeadError::Unusable(why) => Error::Response(why),
    })?;
    let verified = verifier.verify(&response);
    Ok((response, rest, verified))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn location(response: &Response<()>) -> Result<&str, Error> {
    let location = response.headers().get(header::LOCATION);
    let location = location.ok_or(Error::Redirect("it has no Location"))?;
    location.to_str().map_err(|_| Error::Redirect("its Location is no URL"))
}

/// The body of a refusal, as far as it comes soon and is not too long. It is for people, so what
/// there is will do.
async fn body(response: &Response<()>, mut body: Vec<u8>, transport: &mut Transport) -> Bytes {
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(len) = announced {
        let len = len.min(MAX_HEAD);
        let missing = len.saturating_sub(body.len()) as u64;
        let mut rest = transport.take(missing);
        // Whatever ends this, the refusal is the error to report.
        let _ = timeout(BODY_WAIT, rest.read_to_end(&mut body)).await;
        body.truncate(len);
    }
    body.into()
}

/// Connects to the first address of `host` that answers. An address that is silent does not
/// hold up the others for long (RFC 8305).
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut waiting = alternate(lookup_host((host, port)).await?.collect()).into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, "the host has no address")
                }));
            }
            None => {}
        }
        let joined = match waiting.len() {
            0 => attempts.join_next().await,
            _ => timeout(HEAD_START, attempts.join_next()).await.unwrap_or(None),
        };
        match joined {
            Some(Ok(Ok(stream))) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Some(Ok(Err(error))) => failure = Some(error),
            Some(Err(error)) => failure = Some(io::Error::other(error)),
            None => {}
        }
    }
}

/// The addresses with the two families taking turns, each in its order.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut out = Vec::with_capacity(ours.len() + others.len());
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    loop {
        let turn = [ours.next(), others.next()];
        if turn == [None, None] {
            return out;
        }
        out.extend(turn.into_iter().flatten());
    }
}

/// How long one address is tried before the next is tried as well (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// How long the body of a refusal is waited for.
const BODY_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|address| address.parse().unwrap()).collect()
        };
        assert_eq!(
            alternate(addresses(&["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1"])),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(
            alternate(addresses(&["1.1.1.1:1", "2.2.2.2:1", "[::3]:1"])),
            addresses(&["1.1.1.1:1", "[::3]:1", "2.2.2.2:1"])
        );
        assert_eq!(alternate(Vec::new()), Vec::new());
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_an_error() {
        // Bound, so that it is nobody else's.
        let nobody = tokio::net::TcpSocket::new_v4().unwrap();
        nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = nobody.local_addr().unwrap().port();
        assert_eq!(
            dial("127.0.0.1", port).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
