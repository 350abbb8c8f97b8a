use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::redis::link::{Server, Tls};
use crate::redis::options::{RedisError, RedisMode, RedisOptions, RedisTls, public};

/// Options, checked.
#[derive(Clone)]
pub(in crate::redis) struct Plan {
    pub(in crate::redis) servers: Vec<Server>,
    pub(in crate::redis) mode: RedisMode,
}

impl Plan {
    pub(in crate::redis) fn new(options: &RedisOptions) -> Result<Self, RedisError> {
        let wrong = |option, detail: &str| RedisError::Option { option, detail: detail.to_owned() };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if options.prefix.is_empty() || !options.prefix.bytes().all(good) {
            return Err(wrong("prefix", "letters, digits and _ - . : only, at least one"));
        }
        if options.urls.is_empty() {
            return Err(wrong("urls", "there must be one at least"));
        }
        let mut papers = None;
        let mut servers = Vec::new();
        for text in &options.urls {
            let server = server(text, &options.tls, &mut papers)?;
            if options.mode == RedisMode::Cluster && server.database != 0 {
                return Err(wrong("urls", "a cluster has only the database 0"));
            }
            if servers.iter().any(|known: &Server| {
                known.address() == server.address() && known.database == server.database
            }) {
                return Err(wrong("urls", &format!("{} is there twice", public(text))));
            }
            servers.push(server);
        }
        Ok(Self { servers, mode: options.mode.clone() })
    }
}

fn server(text: &str, tls: &RedisTls, papers: &mut Option<Tls>) -> Result<Server, RedisError> {
    let wrong = |why: &str| RedisError::Option {
        option: "urls",
        detail: format!("{} {why}", public(text)),
    };
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    let secure = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(wrong("begins with neither redis:// nor rediss://")),
    };
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err(wrong("names no host")),
    };
    let port = url.port().unwrap_or(6379);
    let database = match url.path().trim_matches('/') {
        "" => 0,
        number => number.parse().map_err(|_| wrong("ends with a database that is no number"))?,
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let auth = url.password().map(|password| (decoded(url.username()), decoded(password)));
    if auth.is_none() && !url.username().is_empty() {
        return Err(wrong("names a user without a password"));
    }
    if secure && papers.is_none() {
        let name = tls.name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|_| RedisError::Option {
            option: "tls",
            detail: "what certificates must be for is neither a name nor an address".to_owned(),
        })?;
        *papers = Some(Tls { config: config(tls)?, name });
    }
    let tls = papers.clone().filter(|_| secure);
    Ok(Server { host, port, tls, auth, database })
}

fn config(tls: &RedisTls) -> Result<Arc<ClientConfig>, RedisError> {
    let wrong =
        |path: &Path, detail: String| RedisError::Certificate { path: path.to_owned(), detail };
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| wrong(path, error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let system = |error: rustls::Error| RedisError::System { detail: error.to_string() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(system)?
        .with_root_certificates(roots);
    let config = match (&tls.cert, &tls.key) {
        (None, None) => config.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let read = PrivateKeyDer::from_pem_file(key);
            let secret = read.map_err(|error| wrong(key, error.to_string()))?;
            let made = config.with_client_auth_cert(certificates(cert)?, secret);
            made.map_err(|error| wrong(cert, error.to_string()))?
        }
        _ => {
            return Err(RedisError::Option {
                option: "tls",
                detail: "a certificate and its key belong together".to_owned(),
            });
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Result<Vec<_>, _> = read;
    let wrong = |detail: String| RedisError::Certificate { path: path.clone(), detail };
    match found {
        Ok(found) if found.is_empty() => Err(wrong("there is no certificate in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}
