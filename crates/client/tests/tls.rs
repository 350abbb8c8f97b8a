//! `wss://` with certificates made on the spot.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use throng_client::{Client, CloseCode, Error, Fault, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key, in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A TLS echo server that takes connections until the end of the test. With `clients` only
/// those of that authority are let in.
async fn serve(
    (chain, key): (String, String),
    clients: Option<&Authority>,
) -> (SocketAddr, JoinHandle<()>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust us hangs up here.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            assert_eq!(stream.get_ref().1.alpn_protocol(), None, "none is configured here");
            let Ok((_, mut ws)) = tokio_websockets::ServerBuilder::new().accept(stream).await
            else {
                continue;
            };
            while let Some(Ok(message)) = ws.next().await {
                if message.is_text() || message.is_binary() {
                    ws.send(message).await.unwrap();
                }
            }
        }
    });
    (addr, task)
}

async fn echo(client: &Client) {
    let mut ws = client.connect().await.unwrap();
    assert!(ws.url().starts_with("wss://"));
    for len in [0, 10, 100_000, 3 << 20] {
        let text = "x".repeat(len);
        ws.send(text.as_str()).await.unwrap();
        assert!(ws.next().await.unwrap() == Some(Message::Text(text)));
    }
    ws.close(CloseCode::NORMAL, "bye").await.unwrap();
    assert_eq!(ws.closed().unwrap().code, Some(CloseCode::NORMAL));
}

#[tokio::test]
async fn names_and_addresses_of_a_trusted_certificate() {
    let authority = Authority::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let (addr, server) = serve(authority.issue(name), None).await;
        let url = format!("wss://{host}:{}/", addr.port());
        echo(&Client::new(&url).unwrap().roots_pem(authority.pem())).await;
        server.abort();
    }
}

#[tokio::test]
async fn through_a_proxy() {
    let authority = Authority::new();
    let (addr, server) = serve(authority.issue("localhost"), None).await;
    let proxy = support::proxy(Some("Basic dTpw"));
    let client = Client::new(&format!("wss://localhost:{}/", addr.port()))
        .unwrap()
        .proxy(&format!("http://u:p@{}", proxy.addr))
        .roots_pem(authority.pem());
    echo(&client).await;
    proxy.done().await;
    server.abort();
}

#[tokio::test]
async fn certificates_that_are_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (addr, server) = serve(authority.issue("localhost"), None).await;
    let url = format!("wss://localhost:{}/", addr.port());
    let wrong_name = format!("wss://127.0.0.1:{}/", addr.port());
    for client in [
        Client::new(&url).unwrap(),
        Client::new(&url).unwrap().roots_pem(other.pem()),
        Client::new(&wrong_name).unwrap().roots_pem(authority.pem()),
    ] {
        let error = client.connect().await.unwrap_err();
        assert!(matches!(error, Error::Tls(_)), "{error}");
        assert_eq!(error.fault(), Fault::Server);
    }
    // A machine may have no certificates of its own.
    let error = Client::new(&url).unwrap().native_roots().connect().await.unwrap_err();
    assert!(matches!(error, Error::Tls(_) | Error::TlsSettings(_)), "{error}");
    server.abort();
}

#[tokio::test]
async fn settings_that_are_no_certificates() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("me");
    let client = || Client::new("wss://127.0.0.1:9/").unwrap();
    for client in [
        client().roots_pem(""),
        client().roots_pem("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n"),
        client().roots_pem(authority.pem()).identity_pem(chain.as_str(), "no key"),
        client().roots_pem(authority.pem()).identity_pem("no chain", key.as_str()),
    ] {
        let error = client.connect().await.unwrap_err();
        assert!(matches!(error, Error::TlsSettings(_)), "{error}");
        assert_eq!(error.fault(), Fault::Caller);
    }
}

#[tokio::test]
async fn a_client_can_show_who_it_is() {
    let authority = Authority::new();
    let (addr, server) = serve(authority.issue("localhost"), Some(&authority)).await;
    let url = format!("wss://localhost:{}/", addr.port());
    let anonymous = Client::new(&url).unwrap().roots_pem(authority.pem());
    let (chain, key) = authority.issue("me");
    echo(&anonymous.clone().identity_pem(chain, key)).await;
    let error = anonymous.connect().await.unwrap_err();
    assert!(matches!(error, Error::Io(_) | Error::Tls(_) | Error::Response(_)), "{error}");
    server.abort();
}

#[tokio::test]
async fn tls_is_not_given_up_for_a_redirect() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("localhost");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let _ = stream.read(&mut [0; 2048]).await.unwrap();
        let response = "HTTP/1.1 302 Found\r\nLocation: ws://localhost/\r\n\r\n";
        stream.write_all(response.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    });
    let client = Client::new(&url).unwrap().roots_pem(authority.pem()).max_redirects(1);
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, Error::Redirect("it leads from wss:// to ws://")), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn tls_where_none_is_spoken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 2048]).await;
    });
    let error = Client::new(&url).unwrap().connect().await.unwrap_err();
    assert!(matches!(error, Error::Tls(_)), "{error}");
    server.await.unwrap();
}
