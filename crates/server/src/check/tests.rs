use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config::{Flags, ListenFlag, Machine};

const MACHINE: Machine = Machine { cores: 4, files: 20_000 };

/// A configuration of these flags; `--listen` is one of them.
fn config(flags: &[(&str, &str)]) -> Config {
    let mut given = Flags::default();
    for (key, value) in flags {
        match *key {
            "--listen" => given.listen.push(ListenFlag::Listen((*value).to_owned())),
            key => given.settings.push((format!("--set {key}"), key.into(), (*value).into())),
        }
    }
    // So that no throng.toml of the directory is read.
    given.file = Some("/dev/null".into());
    Config::load(&given, &[], MACHINE).unwrap()
}

fn report_of(flags: &[(&str, &str)]) -> String {
    let config = config(flags);
    report(&config, &findings(&config))
}

/// What is said, without how to change it.
fn said(level: Level, flags: &[(&str, &str)]) -> Vec<String> {
    let found = findings(&config(flags)).into_iter().filter(|finding| finding.level == level);
    found.map(|finding| finding.what).collect()
}

#[track_caller]
fn assert_is(report: &str, golden: &str) {
    assert_eq!(report, golden, "the report is now:\n{report}");
}

#[test]
fn the_demo() {
    assert_is(&report_of(&[]), include_str!("demo.txt"));
}

#[test]
fn the_demo_for_everybody() {
    let flags = [("--listen", "*:3000"), ("access.anonymous", "*"), ("login.enabled", "on")];
    assert_is(&report_of(&flags), include_str!("open.txt"));
}

#[test]
fn a_server_in_production() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let path = |name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, "something that is longer than 32 bytes").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key, public) = (path("cert.pem"), path("key.pem"), path("public.pem"));
    let report = report_of(&[
        ("--listen", "*:443 tls=on ops=off api=off *=off /ws=rooms"),
        ("--listen", "*:80 redirect=https"),
        ("--listen", "localhost:9090 pages=off sse=off *=off"),
        ("data", directory.path().to_str().unwrap()),
        ("access.anonymous", ""),
        ("access.users", "news:*=join,history"),
        ("jwt.algorithms", "ES256"),
        ("jwt.key_file", &public),
        ("jwt.issuer", "https://id.example"),
        ("jwt.audience", "throng"),
        ("tls.cert", &cert),
        ("tls.key", &key),
        ("tls.hsts", "8760h"),
        ("rooms.origins", "https://app.example"),
        ("limits.exempt", ""),
    ]);
    assert_is(&report, include_str!("production.txt"));
}

#[test]
fn what_is_dangerous() {
    let dangers = |flags: &[(&str, &str)]| said(Level::Danger, flags);
    assert_eq!(dangers(&[]), [""; 0]);
    assert_eq!(dangers(&[("--listen", "*:3000")]), [""; 0]);
    for (flags, expected) in [
        (
            &[("access.anonymous", "*"), ("--listen", "*:3000")][..],
            "Every room is open to everybody, without credentials.",
        ),
        (
            &[("access.anonymous", "**=send,join"), ("--listen", "0.0.0.0:3000")],
            "Every room is open to everybody, without credentials.",
        ),
        (
            &[("--listen", "*:3000"), ("login.enabled", "on")],
            "*:3000 speaks no TLS: passwords travel in the clear.",
        ),
        (
            &[("login.enabled", "on"), ("login.attempts", "off")],
            "Passwords can be guessed as fast as the server can check them.",
        ),
        (
            &[("limits.trusted_proxies", "10.0.0.0/8 ::/0")],
            "Everybody is believed about their address: limits by address and tickets that are bound to \
             one mean nothing.",
        ),
        (
            &[("redis.urls", "redis://127.0.0.1 rediss://10.0.0.1:6380 redis://redis.internal")],
            "Redis at 10.0.0.1, redis.internal wants no password: whoever can reach it can read and write \
             every room, and be anybody.",
        ),
        (&[("limits.exempt", "0.0.0.0/0")], "The limits by address concern nobody."),
    ] {
        assert_eq!(dangers(flags), [expected], "{flags:?}");
    }
}

#[test]
fn secrets_that_others_can_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "something that is longer than 32 bytes").unwrap();
    let shown = path.to_str().unwrap();
    let of_mode = |mode| {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        said(Level::Danger, &[("jwt.algorithms", "HS256"), ("jwt.secret_file", shown)])
    };
    assert_eq!(of_mode(0o640), [""; 0]);
    let sentence =
        format!("Everybody on this machine can read the secret in {shown} (jwt.secret_file).");
    assert_eq!(of_mode(0o644), [sentence]);

    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let flags = [("jwt.algorithms", "RS256"), ("jwt.key_file", shown)];
    let said_of_key = said(Level::Danger, &flags);
    assert!(
        said_of_key[0].starts_with("Everybody on this machine can write to "),
        "{said_of_key:?}"
    );
}

#[test]
fn limits_that_are_off_are_warnings() {
    let warnings = |flags: &[(&str, &str)]| said(Level::Warning, flags);
    let usual = warnings(&[]);
    for (key, value, expected) in [
        ("limits.max_connections_per_ip", "0", "One address may take all connections."),
        ("limits.max_connections_per_user", "0", "One user may take all connections."),
        (
            "limits.connects_per_ip",
            "off",
            "One address may open as many connections a second as it can, each with a TLS handshake to \
             compute.",
        ),
        ("limits.handshakes_per_ip", "off", "One address may try to connect as often as it can."),
        ("limits.max_rooms_per_ip", "100000", "One address may use up all rooms."),
        ("limits.max_rooms_per_user", "0", "One user may use up all rooms."),
        ("rooms.rate", "off", "One client of the rooms at /, /ws may send as much as it can."),
        (
            "rooms.origins",
            "any",
            "Pages of every site may connect to the rooms at /, /ws, from within their visitors' \
             networks.",
        ),
        (
            "access.session_ttl",
            "0s",
            "Sessions do not end by themselves: whoever was let in once stays until revoked.",
        ),
        (
            "redis.urls",
            "redis://localhost rediss://10.0.0.1:6380 redis://redis.internal",
            "Messages, sessions and passwords travel to Redis at redis.internal in the clear.",
        ),
        (
            "limits.memory",
            "1000000GiB",
            "The server may use more memory than there is: the system will kill it instead.",
        ),
    ] {
        let mut now = warnings(&[(key, value)]);
        now.retain(|what| !usual.contains(what));
        assert_eq!(now, [expected], "{key}");
    }
}

#[test]
fn every_key_that_is_listed_is_one_and_every_change_names_one() {
    let config = config(&[
        ("--listen", "*:3000"),
        ("access.anonymous", "*"),
        ("jwt.leeway", "1h"),
        ("redis.urls", "redis://10.0.0.1"),
        ("redis.mode", "cluster"),
    ]);
    for path in SHOWN {
        assert!(config.shown(path).is_some(), "{path}");
    }
    for finding in findings(&config) {
        let Some(rest) = finding.change.strip_prefix('[') else { continue };
        let Some((section, rest)) = rest.split_once("] ") else { panic!("{finding:?}") };
        if section.starts_with('[') || section == "listener.endpoints" {
            continue;
        }
        let (name, _) = rest.split_once(" =").unwrap();
        assert!(config.shown(&format!("{section}.{name}")).is_some(), "{finding:?}");
    }
}
