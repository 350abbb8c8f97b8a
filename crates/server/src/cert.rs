//! `throng cert --self-signed`: a certificate for development, which no browser trusts unasked.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use crate::refuse_to_start;

/// What is to be made.
#[derive(clap::Args, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// Signed by its own key: the only kind there is
    #[arg(long, required = true)]
    self_signed: bool,

    /// A name or an address it is for (repeatable); by default localhost, 127.0.0.1 and ::1
    #[arg(long, value_name = "NAME", value_parser = host)]
    host: Vec<String>,

    /// The directory for cert.pem and key.pem; by default this one
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Writes `cert.pem` and `key.pem`, which must not be there yet.
pub(crate) fn run(args: &Args) -> ExitCode {
    match make(args) {
        Ok((cert, key)) => {
            let (cert, key) = (cert.display(), key.display());
            let _ = writeln!(
                io::stdout(),
                "wrote {cert} and {key}, valid for {DAYS} days; use them with\n  \
                 throng --listen 'localhost:3443 tls=on' --set tls.cert={cert} --set tls.key={key}"
            );
            ExitCode::SUCCESS
        }
        Err(sentence) => refuse_to_start(&sentence),
    }
}

fn make(args: &Args) -> Result<(PathBuf, PathBuf), String> {
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| args.out.join(name));
    for path in [&cert, &key] {
        if path.symlink_metadata().is_ok() {
            return Err(format!("{} is there already; it is not replaced", path.display()));
        }
    }
    let hosts = match &args.host[..] {
        [] => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
        hosts => hosts.to_vec(),
    };
    let (chain, secret) = draw(hosts).map_err(|error| format!("cannot make it: {error}"))?;
    fs::create_dir_all(&args.out).map_err(|error| cannot_write(&args.out, &error))?;
    write(&key, 0o600, &secret)?;
    write(&cert, 0o644, &chain)?;
    Ok((cert, key))
}

/// Certificate and key in PEM.
fn draw(hosts: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let pair = KeyPair::generate()?;
    let first = hosts.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, first);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + now;
    params.not_before = now - DAY;
    params.not_after = now + DAY * DAYS;
    let cert = params.self_signed(&pair)?;
    Ok((cert.pem(), pair.serialize_pem()))
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| cannot_write(path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {}", path.display(), crate::reason(error))
}

fn host(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    match text.parse::<IpAddr>().is_ok() || text.len() <= 253 && name.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => Err("a name such as chat.example.org or *.example.org, or an IP address".into()),
    }
}

const DAY: Duration = Duration::from_secs(86_400);
/// As long as browsers accept (398), and a little less.
const DAYS: u32 = 397;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn makes_both_files_and_replaces_none() {
        let out = tempfile::tempdir().unwrap();
        let args = Args { self_signed: true, host: Vec::new(), out: out.path().join("new") };
        let (cert, key) = make(&args).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&cert).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        let before = fs::read(&key).unwrap();
        assert!(make(&args).unwrap_err().contains("is there already"));
        fs::remove_file(&cert).unwrap();
        assert!(make(&args).is_err(), "one is enough");
        assert_eq!(fs::read(&key).unwrap(), before);
        assert!(!cert.exists());
    }

    #[test]
    fn names_and_addresses() {
        for good in ["localhost", "a.example", "*.example.org", "::1", "192.0.2.1", "my_host"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for wrong in ["", "a b", "a..b", "https://a", "*", "a:443", "ä.example"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
