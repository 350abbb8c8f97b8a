//! `throng config`: the effective configuration as a commented `throng.toml`.

use std::fmt::Write as _;

use super::checked::{Config, DEFAULT_ENDPOINTS, Endpoint, Listener};
use super::keys::{ENDPOINT_KEYS, Setting};
use super::rooms;
use super::units::{Unit as _, quoted};

/// The configuration as TOML that loads to the same configuration, every key explained.
pub(crate) fn print(config: &Config) -> String {
    let mut out = String::from(HEAD);
    let mut section = "";
    for setting in Setting::all() {
        let (of_section, name) = setting.section_and_name();
        if of_section != section {
            section = of_section;
            let _ = write!(out, "\n{}[{section}]\n", section_doc(section));
        }
        out.push('\n');
        comment(&mut out, setting.doc());
        if !setting.danger().is_empty() {
            comment(&mut out, &format!("Danger: {}", setting.danger()));
        }
        let default = match setting.default() {
            "" => "none",
            default => default,
        };
        comment(&mut out, &format!("Default: {default}. Variable: {}.", setting.variable()));
        let _ = write!(out, "{name} = {}", setting.get(config));
        match setting.resolved(config) {
            Some(value) if setting.get(config).contains("auto") => {
                let _ = writeln!(out, " # here: {value}");
            }
            _ => out.push('\n'),
        }
    }
    rooms::print(&mut out, &config.rooms);
    out.push_str(LISTENERS);
    for listener in &config.listeners {
        print_listener(&mut out, listener, config);
    }
    out
}

fn print_listener(out: &mut String, listener: &Listener, config: &Config) {
    let _ = writeln!(out, "\n[[listener]]");
    let _ = writeln!(out, "address = {}", listener.address.write());
    let _ = writeln!(out, "pages = {}", listener.pages);
    let _ = writeln!(out, "ops = {}", listener.ops);
    let _ = writeln!(out, "api = {}", listener.api);
    let _ = writeln!(out, "sse = {}", listener.sse);
    let _ = writeln!(out, "tls = {}", listener.tls);
    let _ = writeln!(out, "redirect = \"{}\"", if listener.redirect { "https" } else { "off" });
    let _ = writeln!(out, "proxy_protocol = {}", listener.proxy_protocol);
    let _ = writeln!(out, "[listener.endpoints]");
    for (path, _) in DEFAULT_ENDPOINTS {
        if !listener.endpoints.iter().any(|endpoint| endpoint.path == path) {
            let _ = writeln!(out, "{} = \"off\"", quoted(path));
        }
    }
    for endpoint in &listener.endpoints {
        let _ = writeln!(out, "{} = {}", quoted(&endpoint.path), endpoint_value(endpoint, config));
    }
}

/// `"relay"`, or a table with what differs from `[relay]`.
fn endpoint_value(endpoint: &Endpoint, config: &Config) -> String {
    let of_kind = &config.kinds[endpoint.kind as usize];
    let mut value = quoted(endpoint.kind.name());
    if endpoint.options == *of_kind {
        return value;
    }
    value = format!("{{ kind = {value}");
    for key in ENDPOINT_KEYS {
        let own = (key.get)(&endpoint.options);
        if own != (key.get)(of_kind) {
            let _ = write!(value, ", {} = {own}", key.name);
        }
    }
    value + " }"
}

/// Wraps a text into comment lines.
pub(crate) fn comment(out: &mut String, text: &str) {
    const WIDTH: usize = 96;
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > WIDTH {
            out.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push('\n');
}

fn section_doc(section: &str) -> &'static str {
    match section {
        "access" => {
            "# Who may do what. Rooms of a [[room]] with membership = true have lists of their own.\n"
        }
        "login" => "# Names and passwords.\n",
        "jwt" => "# Signed tokens that somebody else gives out (RFC 7519).\n",
        "webhook" => "# A service of yours that knows who somebody is.\n",
        "tls" => "# Certificates, for listeners with tls = true.\n",
        "redis" => "# What several servers share: docs/scaling.md.\n",
        "cluster" => "# This server among others.\n",
        "api" => "# The HTTP API, /api/v1.\n",
        "limits" => "# What clients may take before they are refused.\n",
        "log" => "# The log, on stderr.\n",
        "rooms" => {
            "# Endpoints of the kind rooms: the typed protocol. An endpoint may differ, see below.\n"
        }
        "relay" => {
            "# Endpoints of the kind relay: every frame to everyone in the room, verbatim.\n"
        }
        "echo" => "# Endpoints of the kind echo: every frame back to its sender, for tests.\n",
        _ => "",
    }
}

const HEAD: &str = "\
# The configuration of throng, as `throng config` prints it.
#
# throng reads ./throng.toml, or the file named by --config or THRONG_CONFIG. Each key can also be set by
# its environment variable, which wins over the file, and by --set KEY=VALUE, which wins over both.
# Keys that are left out have their defaults.
";

const LISTENERS: &str = "
# Where to listen, and what is there. Variable: THRONG_LISTEN, such as
# \"localhost:3000; 0.0.0.0:3001 /=relay pages=off\", replaces the whole list. Flags: --listen, --endpoint.
#
# address: localhost:3000 (or only 3000) is this machine, by IPv4 and IPv6; *:3000 is every interface;
#   127.0.0.1:3000 and [::1]:3000 are exact; port 0 is any free port.
#   Danger: whoever can reach the address can do what access.anonymous allows.
#   Default: localhost:3000.
# pages: whether the pages (chat) are served. Default: true.
# ops: whether /metrics, /healthz and /readyz are served. Default: true.
#   Danger: the numbers in /metrics are for everyone who can reach the listener.
# api: whether the HTTP API (/api/v1) is served. Default: true.
#   Danger: keys travel in the clear without TLS; better only where your own servers are.
# sse: whether the rooms are served as events (/sse) and messages taken by HTTP (/send). Default: true.
# tls: whether TLS is spoken here, with the certificates of [tls]. Default: false.
#   Danger: without TLS, and without a proxy in front that speaks it, everybody on the way can read along.
# redirect: \"https\" sends everybody to the same place on the listener that speaks TLS, and serves nothing
#   else. Default: \"off\".
# proxy_protocol: whether connections begin with a PROXY header (version 1 or 2) that tells whose they are;
#   those that come from elsewhere than limits.trusted_proxies are cut. Default: false.
# endpoints: what a WebSocket upgrade finds at a path: \"rooms\", \"relay\", \"echo\", or a table such as
#   { kind = \"relay\", max_message = \"2MiB\" } with the keys of the sections above. Rooms and relays are also
#   at PATH/{room}, but for those at /. The table adds to the default one and overrides it;
#   \"/echo\" = \"off\" takes a path away, \"*\" = \"off\" the whole default table.
";

/// The names that start with a section, for errors about sections.
pub(crate) fn sections() -> impl Iterator<Item = &'static str> {
    let mut seen = "";
    Setting::all().map(|setting| setting.section_and_name().0).filter(move |section| {
        let new = *section != seen;
        seen = section;
        new && !section.is_empty()
    })
}
