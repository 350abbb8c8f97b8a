//! What people see when the server is up: the addresses to open.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use crate::config::{Address, Listener};
use crate::serve::Bound;

/// Prints the addresses on stdout. Nobody listening there is no reason to fail.
pub(crate) fn print(bound: &[Bound<'_>]) {
    let listeners: Vec<_> =
        bound.iter().map(|bound| (bound.listener, bound.addresses.as_slice())).collect();
    let _ = std::io::stdout().write_all(text(&listeners).as_bytes());
}

fn text(listeners: &[(&Listener, &[SocketAddr])]) -> String {
    let mut out = format!("throng {} is up.\n", env!("CARGO_PKG_VERSION"));
    for (listener, addresses) in listeners {
        let Some(port) = addresses.first().map(SocketAddr::port) else { continue };
        let host = match listener.address {
            Address::Loopback(_) | Address::Everywhere(_) => format!("localhost:{port}"),
            Address::Exact(address) if address.ip().is_unspecified() => format!("localhost:{port}"),
            Address::Exact(address) => SocketAddr::new(address.ip(), port).to_string(),
        };
        out.push('\n');
        if listener.pages {
            let _ = writeln!(out, "  http://{host}  the chat: open it in two windows and talk");
        }
        let names = listener.endpoints.iter().map(|endpoint| endpoint.path.len());
        let width = names.max().unwrap_or(0);
        for endpoint in &listener.endpoints {
            let (path, kind) = (&endpoint.path, endpoint.kind.name());
            let _ = writeln!(out, "    ws://{host}{path:width$}  {kind}");
        }
    }
    let all_local = listeners.iter().all(|(listener, _)| listener.address.is_local());
    let port = listeners.iter().find_map(|(_, addresses)| Some(addresses.first()?.port()));
    if let (true, Some(port)) = (all_local, port) {
        let _ = writeln!(
            out,
            "\n  Only this machine can connect. For the whole network: throng --listen '*:{port}'"
        );
    }
    out.push_str(
        "  Ctrl+C stops it. `throng --help` and `throng config` tell what can be changed.\n\n",
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
        let text = text(&listeners);
        assert!(text.contains("  http://localhost:1234  the chat"), "{text}");
        assert!(text.contains("    ws://localhost:1234/relay  relay\n"), "{text}");
        assert!(text.contains("    ws://localhost:1235/  relay\n"), "{text}");
        assert!(!text.contains("http://localhost:1235"), "{text}");
        assert!(!text.contains("Only this machine"), "{text}");
    }
}
