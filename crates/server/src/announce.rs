//! What people see when the server is up: the addresses to open.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use crate::config::{Address, Config, GrantWords, Kind, Listener};
use crate::serve::Bound;

/// Prints the addresses on stdout, and what is open there. Nobody listening there is no reason to fail. `is_away`:
/// Redis, which is needed.
pub(crate) fn print(config: &Config, bound: &[Bound<'_>], is_away: bool) {
    let listeners: Vec<_> =
        bound.iter().map(|bound| (bound.listener, bound.addresses.as_slice())).collect();
    let _ = std::io::stdout().write_all(text(config, &listeners, is_away).as_bytes());
}

/// One sentence: what people without credentials may use.
pub(crate) fn anonymous(config: &Config) -> String {
    let endpoints = || config.listeners.iter().flat_map(|listener| &listener.endpoints);
    let enters = |kind| endpoints().any(|e| e.kind == kind && e.options.anonymous);
    let events = config.listeners.iter().any(|listener| listener.sse)
        && config.kinds[Kind::Rooms as usize].anonymous;
    let mut open = Vec::new();
    if enters(Kind::Rooms) || events {
        let rooms = grants(&config.access.anonymous);
        open.extend((!rooms.is_empty()).then_some(rooms));
    }
    for kind in [Kind::Relay, Kind::Echo] {
        if enters(kind) {
            open.push(format!("the {}", kind.name()));
        }
    }
    match open.as_slice() {
        [] => "Anonymous visitors may use nothing: everybody needs a ticket, a token or a login."
            .into(),
        [one] => format!("Anonymous visitors may use {one}."),
        [most @ .., last] => format!("Anonymous visitors may use {}, and {last}.", most.join(", ")),
    }
}

/// The patterns of grants, with the rights where they are not all; empty when there are none.
pub(crate) fn grants(words: &GrantWords) -> String {
    let patterns = words.iter().map(|word| match word.split_once('=') {
        Some((pattern, rights)) => format!("{pattern} (only {})", rights.replace(',', ", ")),
        None if word == "*" => "every room".to_owned(),
        None => word.to_owned(),
    });
    patterns.collect::<Vec<_>>().join(", ")
}

fn text(config: &Config, listeners: &[(&Listener, &[SocketAddr])], is_away: bool) -> String {
    let mut out = format!("throng {} is up.\n", env!("CARGO_PKG_VERSION"));
    if is_away {
        out.push_str("Redis cannot be reached: rooms work as soon as it can.\n");
    }
    for (listener, addresses) in listeners {
        let Some(port) = addresses.first().map(SocketAddr::port) else { continue };
        let host = match listener.address {
            Address::Loopback(_) | Address::Everywhere(_) => format!("localhost:{port}"),
            Address::Exact(address) if address.ip().is_unspecified() => format!("localhost:{port}"),
            Address::Exact(address) => SocketAddr::new(address.ip(), port).to_string(),
        };
        out.push('\n');
        let (http, ws) = if listener.tls { ("https", "wss") } else { ("http", "ws") };
        if listener.redirect {
            let _ = writeln!(out, "  {http}://{host}  only leads to https");
            continue;
        }
        if listener.pages {
            let _ = writeln!(out, "  {http}://{host}  the chat: open it in two windows and talk");
        }
        let names = listener.endpoints.iter().map(|endpoint| endpoint.path.len());
        let width = names.max().unwrap_or(0);
        for endpoint in &listener.endpoints {
            let (path, kind) = (&endpoint.path, endpoint.kind.name());
            let _ = writeln!(out, "    {ws}://{host}{path:width$}  {kind}");
        }
    }
    let _ = writeln!(out, "\n  {}", anonymous(config));
    let all_local = listeners.iter().all(|(listener, _)| listener.address.is_local());
    let port = listeners.iter().find_map(|(_, addresses)| Some(addresses.first()?.port()));
    if let (true, Some(port)) = (all_local, port) {
        let _ = writeln!(
            out,
            "  Only this machine can connect. For the whole network: throng --listen '*:{port}'"
        );
    }
    out.push_str(
        "  `throng check` tells what to change before strangers come, `throng config` what can be changed.\n  \
         Ctrl+C stops it.\n\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flags, Machine};

    #[test]
    fn the_addresses_can_be_copied() {
        let machine = Machine { cores: 1, files: 1024 };
        let variables =
            [("THRONG_LISTEN".to_owned(), "0; 0.0.0.0:0 pages=off *=off /=relay".to_owned())];
        let config = Config::load(&Flags::default(), &variables, machine).unwrap();
        let addresses: [SocketAddr; 2] =
            ["127.0.0.1:1234".parse().unwrap(), "0.0.0.0:1235".parse().unwrap()];
        let listeners: Vec<_> = config.listeners.iter().zip(addresses.chunks(1)).collect();
        let away = super::text(&config, &listeners, true);
        assert!(away.contains("is up.\nRedis cannot be reached: rooms work"), "{away}");
        let text = text(&config, &listeners, false);
        assert!(!text.contains("Redis"), "{text}");
        assert!(text.contains("  http://localhost:1234  the chat"), "{text}");
        assert!(text.contains("    ws://localhost:1234/relay  relay\n"), "{text}");
        assert!(text.contains("    ws://localhost:1235/  relay\n"), "{text}");
        assert!(!text.contains("http://localhost:1235"), "{text}");
        assert!(!text.contains("Only this machine"), "{text}");
        let open = "\n  Anonymous visitors may use lobby, demo:*, live:lobby, live:demo:*, @u_* (only send), \
                    the relay, and the echo.\n";
        assert!(text.contains(open), "{text}");
    }

    #[test]
    fn what_is_open_is_one_sentence() {
        let load = |settings: &[(&str, &str)]| {
            let machine = Machine { cores: 1, files: 1024 };
            let settings = settings.iter();
            let settings =
                settings.map(|(key, value)| ("--set".into(), (*key).into(), (*value).into()));
            let flags = Flags { settings: settings.collect(), ..Flags::default() };
            anonymous(&Config::load(&flags, &[], machine).unwrap())
        };
        let closed =
            [("access.anonymous", ""), ("relay.anonymous", "off"), ("echo.anonymous", "off")];
        assert_eq!(
            load(&closed),
            "Anonymous visitors may use nothing: everybody needs a ticket, a token or a login."
        );
        assert_eq!(load(&closed[..2]), "Anonymous visitors may use the echo.");
        assert_eq!(
            load(&[("access.anonymous", "* a:*=join,history")]),
            "Anonymous visitors may use every room, a:* (only join, history), the relay, and the echo."
        );
        assert_eq!(
            load(&[("rooms.anonymous", "off"), ("echo.anonymous", "off")]),
            "Anonymous visitors may use the relay."
        );
    }
}
