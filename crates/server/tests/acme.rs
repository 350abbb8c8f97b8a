//! Certificates by ACME, from Pebble, the small test server of Let's Encrypt (Debian package `pebble`).
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "support/tls.rs"]
mod clients;
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use self::clients::{Cert, Client, ask, shown};
use self::support::{Server, eventually};

/// A process, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free for TCP and UDP now, below those that the system gives to others meanwhile.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_100 + std::process::id().wrapping_mul(911).wrapping_add(number) % 20_000;
        let address = ("127.0.0.1", u16::try_from(port).unwrap());
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.1;
        }
    }
}

fn start(command: &mut Command, port: u16) -> Process {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().unwrap());
    eventually(&format!("{command:?} listens"), || TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}

/// An authority that looks for the challenge at `tls_port`, whose certificates are valid for so many seconds.
struct Authority {
    directory: String,
    management: SocketAddr,
    cert: Cert,
    _processes: [Process; 2],
}

impl Authority {
    fn start(files: &Path, tls_port: u16, validity: u32) -> Self {
        let [port, management, dns, dns_management] = [(); 4].map(|()| free_port());
        let cert = Cert::write(files, "pebble", &["localhost", "127.0.0.1"]);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": cert.cert_file,
            "privateKey": cert.key_file,
            "httpPort": 1,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": validity,
        }});
        let path = files.join("pebble.json");
        std::fs::write(&path, config.to_string()).unwrap();
        // Every name is this machine.
        let names = start(
            Command::new("pebble-challtestsrv")
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args(["-dns01", &format!("127.0.0.1:{dns}")])
                .args(["-management", &format!("127.0.0.1:{dns_management}")]),
            dns_management,
        );
        let pebble = start(
            Command::new("pebble")
                .arg("-config")
                .arg(&path)
                .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
                .env("PEBBLE_VA_NOSLEEP", "1"),
            port,
        );
        let directory = format!("https://localhost:{port}/dir");
        let management = SocketAddr::from(([127, 0, 0, 1], management));
        Self { directory, management, cert, _processes: [names, pebble] }
    }

    /// A client that trusts what the authority issues, and nothing else.
    fn client(&self) -> Client {
        let own = Client::of(&self.cert).connect(self.management, "localhost").unwrap();
        let mut stream = own;
        stream
            .write_all(b"GET /roots/0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let der = CertificateDer::from_pem_slice(&clients::parse(&answer).body).unwrap();
        Client::trusting(&der)
    }
}

/// A server on this port that wants a certificate for `chat.example`.
fn serve(port: u16, cache: &Path, directory: &str, authority: &Path) -> Server {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:{port}\"\ntls = true\n[tls]\n\
         acme_domains = [\"chat.example\"]\nacme_contact = \"ops@chat.example\"\n\
         acme_directory = {directory:?}\nacme_ca = {authority:?}\nacme_cache = {cache:?}\n"
    );
    Server::start_with(&[], &text)
}

#[test]
fn a_certificate_is_obtained_served_and_kept() {
    let files = tempfile::tempdir().unwrap();
    let cache = files.path().join("cache");
    let port = free_port();
    let authority = Authority::start(files.path(), port, 90 * 86_400);
    let client = authority.client();
    let ca = authority.cert.cert_file.clone();
    let mut server = serve(port, &cache, &authority.directory, &ca);
    server.until_logged("a certificate was obtained");
    server.until_logged("the certificate is in the cache");
    let stream = client.connect(server.address(), "chat.example").unwrap();
    let obtained = shown(&stream);
    assert_eq!(ask(stream, "/healthz").status, 200);
    let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "there are keys in it");
    // After a restart it is there at once, although nobody could be asked for another.
    drop(server);
    let directory = authority.directory.clone();
    drop(authority);
    let server = serve(port, &cache, &directory, &ca);
    let mut stream = None;
    eventually("it is served", || {
        stream = client.connect(server.address(), "chat.example").ok();
        stream.is_some()
    });
    assert_eq!(shown(&stream.unwrap()), obtained);
}

#[test]
fn a_certificate_is_renewed_before_it_ends() {
    let files = tempfile::tempdir().unwrap();
    let port = free_port();
    let authority = Authority::start(files.path(), port, 15);
    let client = authority.client();
    let ca = authority.cert.cert_file.clone();
    let mut server = serve(port, &files.path().join("cache"), &authority.directory, &ca);
    server.until_logged("a certificate was obtained");
    let first = shown(&client.connect(server.address(), "chat.example").unwrap());
    server.until_logged("a certificate was obtained");
    let second = shown(&client.connect(server.address(), "chat.example").unwrap());
    assert_ne!(first, second);
}
