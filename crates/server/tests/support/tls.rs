//! Certificates, and clients that speak TLS.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "in a test, to panic is to say what is wrong")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;
use tungstenite::WebSocket;

use crate::support::{Answer, Server, connect};

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate that its own key has signed, and where it is.
pub(crate) struct Cert {
    pub(crate) der: CertificateDer<'static>,
    key: Vec<u8>,
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Cert {
    /// Draws one for these names and writes it to `NAME.pem` and `NAME.key`.
    pub(crate) fn write(directory: &Path, name: &str, hosts: &[&str]) -> Self {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        let cert_file = directory.join(format!("{name}.pem"));
        let key_file = directory.join(format!("{name}.key"));
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&cert_file, made.cert.pem()).unwrap();
        let der = made.cert.der().clone();
        Self { der, key: made.signing_key.serialize_der(), cert_file, key_file }
    }
}

/// How a client speaks TLS.
pub(crate) struct Client {
    pub(crate) config: Arc<ClientConfig>,
}

impl Client {
    /// One that trusts this certificate.
    pub(crate) fn of(cert: &Cert) -> Self {
        Self::trusting(&cert.der)
    }

    /// The same.
    pub(crate) fn trusting(root: &CertificateDer<'static>) -> Self {
        Self::with(root, None, rustls::ALL_VERSIONS, &[])
    }

    pub(crate) fn with(
        root: &CertificateDer<'static>,
        own: Option<&Cert>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let mut config = match own {
            Some(own) => {
                let key = PrivateKeyDer::Pkcs8(own.key.clone().into());
                builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config) }
    }

    /// A connection after its handshake.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<Stream> {
        self.over(connect(address), name)
    }

    pub(crate) fn over(&self, socket: TcpStream, name: &str) -> std::io::Result<Stream> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// An open WebSocket.
    pub(crate) fn websocket(&self, server: &Server, path: &str) -> WebSocket<Stream> {
        let stream = self.connect(server.address(), "localhost").unwrap();
        stream.sock.set_nodelay(true).unwrap();
        let url = format!("ws://localhost{path}");
        let (socket, response) = tungstenite::client(url, stream).unwrap();
        assert_eq!(response.status().as_u16(), 101);
        socket
    }
}

/// One request, and the whole answer, which must end with close_notify.
pub(crate) fn ask(mut stream: Stream, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

/// An answer that has been read.
pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
        None => format!("{line}\n"),
    });
    Answer { status, head: head.collect(), body: body.as_bytes().to_vec() }
}

/// A server with one listener that has TLS and a certificate for `localhost`. `more` begins with keys of
/// `[tls]`.
pub(crate) fn serve(more: &str) -> (Server, Cert, TempDir) {
    let files = tempfile::tempdir().unwrap();
    let cert = Cert::write(files.path(), "server", &["localhost"]);
    let server = Server::start_with(&[], &file(&[&cert], more));
    (server, cert, files)
}

/// The text of a configuration file.
pub(crate) fn file(certs: &[&Cert], more: &str) -> String {
    let list = |of: fn(&Cert) -> &PathBuf| {
        certs.iter().map(|cert| format!("{:?}", of(cert))).collect::<Vec<_>>().join(", ")
    };
    let (cert, key) = (list(|cert| &cert.cert_file), list(|cert| &cert.key_file));
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\n\n[tls]\ncert = [{cert}]\nkey = [{key}]\n{more}\n"
    )
}

/// Whom the server says it is.
pub(crate) fn shown(stream: &Stream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}
