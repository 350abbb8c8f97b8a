//! Certificates, keys and passwords of a server that lets not everybody in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// What a client needs to be let in, and what the server shows. All files are PEM.
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
    pub(crate) server: (PathBuf, PathBuf),
}

impl Papers {
    pub(crate) fn write(folder: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let issue = |name: &str| {
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(hosts).map_err(io::Error::other)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let chain = params.signed_by(&key, &authority).map_err(io::Error::other)?;
            let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
            fs::write(&files.0, chain.pem())?;
            fs::write(&files.1, key.serialize_pem())?;
            Ok::<_, io::Error>(files)
        };
        let (server, (certificate, key)) = (issue("server")?, issue("client")?);
        let file = folder.join("authority.pem");
        fs::write(&file, authority.pem())?;
        let (user, password) = ("throng", "let-throng-in");
        Ok(Self { authority: file, certificate, key, user, password, server })
    }

    /// Arguments that let only those in who show a certificate and know a password.
    pub(crate) fn arguments(&self, port: u16) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let mut arguments: Vec<String> = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path(&self.server.0)),
            ("--tls-key-file", path(&self.server.1)),
            ("--tls-ca-cert-file", path(&self.authority)),
            ("--tls-auth-clients", "yes".into()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        let rights = format!(
            "{} on >{} ~throng:* &throng:* +@all -@admin -@dangerous +info +role",
            self.user, self.password
        );
        arguments.push("--user".into());
        arguments.extend(rights.split(' ').map(str::to_owned));
        arguments.push("--user".into());
        let rights = format!("default on >{ADMIN} ~* &* +@all");
        arguments.extend(rights.split(' ').map(str::to_owned));
        arguments
    }
}

/// The password of the user `default`, who may do everything.
pub(crate) const ADMIN: &str = "let-the-rig-in";
