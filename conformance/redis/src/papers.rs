//! Certificates, keys and passwords of a server that lets not everybody in.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// What a client needs to be let in, and what the servers show. All files are PEM.
#[derive(Clone, Debug)]
pub struct Papers {
    /// Whose certificates are good.
    pub authority: PathBuf,
    /// The client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A user that may do what throng needs, below the prefix `throng`.
    pub user: &'static str,
    /// Its password.
    pub password: &'static str,
    /// A user that may ask sentinels where the primary is, and nothing else. Of the same password.
    pub asker: &'static str,
    /// By what the servers are reached, and what they say of each other.
    pub(crate) host: &'static str,
    server: (PathBuf, PathBuf),
    _folder: Arc<TempDir>,
}

impl Papers {
    /// The servers are reached by `host` and show certificates for these names and addresses.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(host: &'static str, names: &[&str]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("throng-papers-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let issue = |name: &str| {
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let hosts: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(hosts).map_err(io::Error::other)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let chain = params.signed_by(&key, &authority).map_err(io::Error::other)?;
            let files = (at(&format!("{name}.pem")), at(&format!("{name}.key")));
            fs::write(&files.0, chain.pem())?;
            fs::write(&files.1, key.serialize_pem())?;
            Ok::<_, io::Error>(files)
        };
        let (server, (certificate, key)) = (issue("server")?, issue("client")?);
        let file = at("authority.pem");
        fs::write(&file, authority.pem())?;
        Ok(Self {
            authority: file,
            certificate,
            key,
            user: "throng",
            password: "let-throng-in",
            asker: "asker",
            host,
            server,
            _folder: Arc::new(folder),
        })
    }

    /// Settings of a sentinel that let only those in who show a certificate and know a password, a line for each.
    pub(crate) fn of_sentinel(&self, port: u16) -> Vec<String> {
        let rights = "-@all +auth +hello +client|setname +sentinel|master";
        self.settings(port, format!("user {} on >{} {rights}", self.asker, self.password))
    }

    /// The same of a server; and how a replica is let in by its primary.
    fn of_server(&self, port: u16) -> Vec<String> {
        let rights = "~throng:* &throng:* +@all -@admin -@dangerous +info +role";
        let mut lines =
            self.settings(port, format!("user {} on >{} {rights}", self.user, self.password));
        lines.extend(["masteruser default".to_owned(), format!("masterauth {ADMIN}")]);
        lines
    }

    fn settings(&self, port: u16, user: String) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        vec![
            format!("tls-port {port}"),
            format!("tls-cert-file {}", path(&self.server.0)),
            format!("tls-key-file {}", path(&self.server.1)),
            format!("tls-ca-cert-file {}", path(&self.authority)),
            "tls-auth-clients yes".to_owned(),
            "tls-replication yes".to_owned(),
            user,
            format!("user default on >{ADMIN} ~* &* +@all"),
        ]
    }

    /// Settings of a server as arguments.
    pub(crate) fn arguments(&self, port: u16) -> Vec<String> {
        let lines = self.of_server(port);
        lines
            .iter()
            .flat_map(|line| format!("--{line}").split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

/// The password of the user `default`, who may do everything.
pub(crate) const ADMIN: &str = "let-the-rig-in";
