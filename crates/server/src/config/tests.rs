//! The layers together: precedence, round trips, and every sentence about what is wrong.

use std::time::Duration;

use super::units::{Choice, Size};
use super::*;

const MACHINE: Machine = Machine { cores: 4, files: 20_000 };

fn build(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Config, String> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut given = Flags::default();
    for pair in flags.chunks(2) {
        let (flag, value) = (pair[0], pair[1].to_owned());
        match flag {
            "--listen" => given.listen.push(ListenFlag::Listen(value)),
            "--endpoint" => given.listen.push(ListenFlag::Endpoint(value)),
            key => given.settings.push((format!("--set {key}"), key.to_owned(), value)),
        }
    }
    Config::build(Some(("throng.toml", file)), &variables, &given, MACHINE)
        .map_err(|error| error.to_string())
}

fn ok(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Config {
    build(file, variables, flags).unwrap_or_else(|sentence| panic!("{sentence}"))
}

fn file_error(file: &str) -> String {
    build(file, &[], &[]).expect_err(file)
}

/// A value that differs from every default of this setting.
fn other_value(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or(path) {
        "heartbeat" | "shutdown_grace" | "handshake_timeout" | "resume_window" => "3s",
        "sync" => "normal",
        "recheck" | "ticket_ttl" | "session_ttl" | "leeway" | "timeout" | "hsts" => "4s",
        "partial_timeout" => "3s",
        "anonymous" if path.starts_with("access") => "a b:*=join,send:x",
        "users" => "a b:*=join,send:x",
        "enabled" | "login" => "true",
        "anonymous" => "false",
        "attempts" | "rate" | "user_rate" => "7/s burst 9",
        "connects_per_ip" | "handshakes_per_ip" => "7/s burst 9",
        "bytes_rate" => "64KiB/s burst 2MiB",
        "budget" | "memory" => "32MiB",
        "algorithms" => "HS256,ES256",
        "secret_file" | "key_file" | "jwks_file" | "client_ca" | "acme_ca" | "cert" | "key" => {
            SECRET
        }
        "jwks_url" | "url" | "acme_directory" => "https://a.example/b",
        "issuer" | "audience" | "acme_contact" => "x",
        "user_claim" | "info_claim" | "rooms_claim" => "y",
        "allow" => "10.0.0.0/8,auth.internal",
        "retries" => "4",
        "client_auth" => "optional",
        "min_version" => "1.3",
        "acme_domains" => "a.example,b.example",
        "acme_cache" => "/var/cache/acme",
        "trusted_proxies" | "exempt" => "192.0.2.7,2001:db8::/32",
        "keys" => "ci:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
        "keys_file" => "/dev/null",
        "urls" => "redis://a.example:6379,rediss://[::1]:6380/2",
        "mode" => "cluster",
        "master" | "username" | "sentinel_username" | "tls_name" | "advertise" => "z",
        "prefix" => "other",
        "password_file" | "sentinel_password_file" | "ca" => SECRET,
        "trust_restarts" => "true",
        "probe" | "patience" | "node_timeout" | "drain_spread" => "6s",
        "min_replicas" => "2",
        "data" => "/var/lib/throng",
        "level" => "debug",
        "format" => "json",
        "header_size" => "32KiB",
        "header_count" => "64",
        "room" => "hall",
        "max_message" | "outbox" | "deflate_threshold" | "memory_history" => "128KiB",
        "origins" => "https://a.example",
        "flush" => "7ms",
        "slow" => "drop",
        "deflate" if path.starts_with("relay") => "true",
        "deflate" => "false",
        "deflate_level" => "5",
        "deflate_mem_level" => "7",
        "deflate_server_no_context_takeover" | "deflate_client_no_context_takeover" => "false",
        "deflate_server_max_window_bits" | "deflate_client_max_window_bits" => "11",
        _ => "17",
    }
}

/// What a setting needs beside it.
fn companions(path: &str) -> String {
    let file = format!("{SECRET:?}");
    match path {
        "jwt.algorithms" => format!("[jwt]\nsecret_file = {file}\nkey_file = {file}\n"),
        "jwt.secret_file" | "jwt.key_file" | "jwt.jwks_url" | "jwt.jwks_file" => {
            "[jwt]\nalgorithms = []\n".to_owned()
        }
        "webhook.url" => format!("[webhook]\nsecret_file = {file}\n"),
        "webhook.login" => format!(
            "[login]\nenabled = true\n[webhook]\nurl = \"http://a\"\nsecret_file = {file}\n"
        ),
        "redis.username" => format!("[redis]\npassword_file = {file}\n"),
        "redis.cert" => format!("[redis]\nkey = {file}\n"),
        "redis.key" => format!("[redis]\ncert = {file}\n"),
        "tls.cert" => format!("[tls]\nkey = {file}\n"),
        "tls.key" => format!("[tls]\ncert = {file}\n"),
        "tls.client_auth" => format!("[tls]\nclient_ca = {file}\n"),
        "tls.acme_domains" => "[tls]\nacme_cache = \"/var/cache/acme\"\n".to_owned(),
        _ => String::new(),
    }
}

/// A file with more than 32 bytes.
const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

fn endpoint<'a>(listener: &'a Listener, path: &str) -> Option<&'a Endpoint> {
    listener.endpoints.iter().find(|endpoint| endpoint.path == path)
}

#[test]
fn what_throng_config_prints_loads_to_the_same() {
    let default = ok("", &[], &[]);
    assert_eq!(ok(&print(&default), &[], &[]), default);

    let text = r#"
        workers = 3
        heartbeat = "1.5s"
        data = "C:\\a \"b\""
        limits.max_connections = 5_000
        [relay]
        origins = ["https://a.example", "http://b.example:81"]
        flush = "5ms"
        [[room]]
        match = "@*"
        presence = "off"
        allow = false
        [[room]]
        match = "chat:*"
        history = 20
        history_bytes = "64KiB"
        membership = true
        rate = "100/s burst 300"
        slow = "latest"
        slow_key = "user \"x\""
        history_ttl = "1.5h"
        grace = "3s"
        max_members = 7
        other_types = false
        [room.types]
        "a \"b\"" = {}
        [room.types.chat.schema]
        required = ["text"]
        properties = { text = { type = "string", maxLength = 4_000 }, "$x" = { maximum = 1.5 } }
        [room.types.dot]
        cost = 5
        schema = {}
        [[room]]
        match = "*"
        volatile = true
        presence = "count"
        [[listener]]
        address = "[::1]:3001"
        pages = false
        api = false
        endpoints = { "*" = "off", "/" = { kind = "relay", room = "x", deflate = true }, "/ws" = "rooms" }
        [[listener]]
        address = "*:0"
        ops = false
        [listener.endpoints]
        "/echo" = { max_message = "1MiB" }
        "/metrics" = "echo"
        [[listener]]
        address = "*:443"
        tls = true
        proxy_protocol = true
        [[listener]]
        address = "*:80"
        redirect = "https"
    "#;
    let text = &format!(
        "limits.trusted_proxies = [\"::1\"]\n{text}\n[tls]\ncert = [{SECRET:?}]\nkey = [{SECRET:?}]\n"
    );
    let config = ok(text, &[], &[]);
    assert_eq!(ok(&print(&config), &[], &[]), config, "{}", print(&config));
    assert_eq!(config.rooms.len(), 3);
    let chat = &config.rooms[1];
    assert_eq!((chat.history, chat.max_members, chat.types.len()), (20, 7, 3));
    assert!(chat.durable && !chat.other_types && chat.membership);
    assert_eq!((chat.slow, chat.slow_key.as_str()), (RoomSlow::Latest, "user \"x\""));
    assert_eq!((chat.types["dot"].cost, chat.types["chat"].cost), (5, 1));
    assert!(config.listeners[2].tls && config.listeners[3].redirect);
    assert!(config.listeners[3].endpoints.is_empty() && !config.listeners[3].pages);
    let volatile = &config.rooms[2];
    assert_eq!((volatile.history, volatile.durable, volatile.volatile), (0, false, true));
    assert!(!config.listeners[0].api && config.listeners[0].sse && config.listeners[1].api);
    assert_eq!(config.listeners[0].endpoints.len(), 2);
    assert_eq!(config.listeners[1].endpoints.len(), 5);
    let classic = endpoint(&config.listeners[0], "/").unwrap();
    assert_eq!(classic.options.flush, Gather::Every(Duration::from_millis(5)), "from [relay]");
    assert!(classic.options.deflate, "its own");
    assert!(!config.kinds[Kind::Relay as usize].deflate);
}

#[test]
fn every_key_can_be_set_in_the_file_by_variable_and_by_flag() {
    for setting in Setting::all() {
        let path = setting.path();
        let value = other_value(&path);
        let (section, name) = setting.section_and_name();
        let line = format!("{name} = {value:?}\n");
        let beside = companions(&path);
        let file = match beside.split_once(&format!("[{section}]\n")) {
            _ if section.is_empty() => line,
            Some((before, behind)) => format!("{before}[{section}]\n{line}{behind}"),
            None => format!("[{section}]\n{line}"),
        };
        if path.starts_with("jwt") && !beside.is_empty() && path != "jwt.algorithms" {
            // Keys need algorithms, and algorithms keys of their kind.
            continue;
        }
        let plain = match (path.as_str(), beside.as_str()) {
            // The two are as many as each other.
            ("tls.cert" | "tls.key" | "redis.cert" | "redis.key" | "jwt.algorithms", _) => {
                ok("", &[], &[])
            }
            _ => ok(&beside, &[], &[]),
        };

        let by_file = ok(&file, &[], &[]);
        let by_variable = ok(&beside, &[(setting.variable().as_str(), value)], &[]);
        let by_flag = ok(&beside, &[], &[path.as_str(), value]);
        assert_ne!(by_file, plain, "{path} changes something");
        assert_eq!(by_file, by_variable, "{path}");
        assert_eq!(by_file, by_flag, "{path}");
        assert_eq!(ok(&print(&by_file), &[], &[]), by_file, "{path}");
    }
}

#[test]
fn the_keys_of_tokens_can_be_set_in_the_file_by_variable_and_by_flag() {
    let file = |name: &str, value: &str, algorithm: &str| {
        format!("[jwt]\nalgorithms = [{algorithm:?}]\n{name} = {value:?}\n")
    };
    for (name, algorithm, value) in [
        ("secret_file", "HS256", SECRET),
        ("key_file", "ES256", SECRET),
        ("jwks_file", "EdDSA", SECRET),
        ("jwks_url", "RS256", "https://a.example/keys"),
    ] {
        let by_file = ok(&file(name, value, algorithm), &[], &[]);
        let algorithms = [("THRONG_JWT_ALGORITHMS", algorithm)];
        let by_flag = ok("", &algorithms, &[&format!("jwt.{name}"), value]);
        assert_eq!(by_file, by_flag, "{name}");
        assert_eq!(ok(&print(&by_file), &[], &[]), by_file, "{name}");
    }
}

#[test]
fn defaults_are_as_documented() {
    let config = ok("", &[], &[]);
    assert_eq!((config.workers.value, config.front_threads.value), (4, 4));
    assert_eq!(config.limits.max_http_connections.value, 2500);
    assert_eq!(config.limits.max_connections.value, 20_000 - 2500 - 64);
    assert_eq!(config.limits.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.heartbeat, Duration::from_secs(25));
    assert_eq!((config.limits.max_rooms, config.limits.memory_history), (128, Size(64 << 20)));
    assert_eq!((config.sync, config.resume_window), (Sync::Full, Duration::from_secs(120)));
    assert!(config.keys.is_empty() && config.rooms.is_empty());
    let words: Vec<&str> = config.access.anonymous.iter().collect();
    assert_eq!(words, ["lobby", "demo:*", "live:lobby", "live:demo:*", "@u_*=send"]);
    assert!(config.access.users.iter().next().is_none() && !config.login.enabled);
    assert!(config.jwt.algorithms.is_empty() && config.webhook.url.is_empty());
    let limits = &config.limits;
    assert_eq!((limits.max_connections_per_ip, limits.max_connections_per_user), (1000, 100));
    assert!(limits.memory.value > 1 << 20 && limits.trusted_proxies.is_empty());
    let [rooms, relay, echo] = &config.kinds;
    assert_eq!(
        [rooms.max_message, relay.max_message, echo.max_message],
        [Size(64 << 10), Size(1 << 20), Size(16 << 20)]
    );
    assert_eq!((&rooms.origins, &relay.origins), (&Sources::SameOrigin, &Sources::Any));
    assert_eq!((rooms.flush, relay.flush), (Gather::Auto, Gather::Every(Duration::ZERO)));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, Address::Loopback(3000));
    assert_eq!(config.listeners[0].endpoints.len(), 4);
    assert!(endpoint(&config.listeners[0], "/").is_some_and(|e| e.kind == Kind::Rooms));
}

#[test]
fn few_files_still_leave_room_for_a_connection() {
    let config = Config::check(RawConfig::defaults(), Machine { cores: 1, files: 16 }).unwrap();
    assert_eq!(config.limits.max_connections.value, 1);
    assert_eq!(config.limits.max_http_connections.value, 4);
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "workers = 1\nheartbeat = \"1s\"\nshutdown_grace = \"1s\"\n";
    let variables = [("THRONG_HEARTBEAT", "2s"), ("THRONG_SHUTDOWN_GRACE", "2s"), ("PATH", "x")];
    let config = ok(file, &variables, &["shutdown_grace", "3s"]);
    assert_eq!(config.workers.choice, Choice::Fixed(1));
    assert_eq!(config.heartbeat, Duration::from_secs(2));
    assert_eq!(config.shutdown_grace, Duration::from_secs(3));
    assert_eq!(config.front_threads.choice, Choice::Auto);
}

#[test]
fn listeners_come_from_the_last_layer_that_names_any() {
    let file = "[[listener]]\naddress = 3001\n[[listener]]\naddress = 3002\n";
    let ports = |config: Config| {
        config.listeners.iter().map(|listener| listener.address.port()).collect::<Vec<_>>()
    };
    assert_eq!(ports(ok(file, &[], &[])), [3001, 3002]);
    let variable = [("THRONG_LISTEN", "3003 /=relay pages=off; [::1]:3004")];
    assert_eq!(ports(ok(file, &variable, &[])), [3003, 3004]);
    assert!(!ok(file, &variable, &[]).listeners[0].pages);
    assert_eq!(ports(ok(file, &variable, &["--listen", "3005"])), [3005]);
    assert_eq!(
        ports(ok(file, &[("THRONG_LISTEN", "")], &[])),
        [3000],
        "an empty list is the default"
    );
}

#[test]
fn an_endpoint_flag_belongs_to_the_listen_before_it() {
    let config = ok(
        "",
        &[],
        &[
            "--listen",
            "3001",
            "--endpoint",
            "/=relay",
            "--listen",
            "3002",
            "--endpoint",
            "/echo=off",
        ],
    );
    let [first, second] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert!(endpoint(first, "/").is_some_and(|e| e.kind == Kind::Relay));
    assert!(endpoint(first, "/ws").is_some(), "the default table stays");
    assert!(endpoint(second, "/").is_some_and(|e| e.kind == Kind::Rooms));
    assert!(endpoint(second, "/echo").is_none());

    let config = ok("", &[], &["--endpoint", "/x=echo,max_message=2MiB,origins=any"]);
    let x = endpoint(&config.listeners[0], "/x").unwrap();
    assert_eq!((config.listeners[0].address.port(), x.kind), (3000, Kind::Echo));
    assert_eq!(x.options.max_message, Size(2 << 20));

    let leading = ["--endpoint", "/=echo", "--listen", "3001 /=relay"];
    let config = ok("", &[], &leading);
    assert_eq!(config.listeners.len(), 1);
    assert!(
        endpoint(&config.listeners[0], "/").is_some_and(|e| e.kind == Kind::Relay),
        "the listener's own comes later"
    );

    let file = "[[listener]]\naddress = 3001\nendpoints = { \"/\" = \"relay\" }\n";
    let config = ok(file, &[], &["--endpoint", "/=echo"]);
    assert!(endpoint(&config.listeners[0], "/").is_some_and(|e| e.kind == Kind::Echo));
}

#[test]
fn a_wrong_file_gets_one_sentence_with_the_line() {
    for (file, sentence) in [
        (
            "\n[limits]\nmax_conections = 5\n",
            "throng.toml, line 3: there is no key \"limits.max_conections\"; did you mean \
             limits.max_connections?",
        ),
        (
            "max_connections = 5\n",
            "throng.toml, line 1: there is no key \"max_connections\"; did you mean \
             limits.max_connections?",
        ),
        ("[limit]\n", "throng.toml, line 1: there is no key \"limit\"; did you mean limits?"),
        ("colour = 1\n", "throng.toml, line 1: there is no key \"colour\""),
        ("limits = 3\n", "throng.toml, line 1: limits must be a table: [limits]"),
        (
            "heartbeat = \"10 parsecs\"",
            "throng.toml, line 1: heartbeat must be a duration such as \"25s\", \"5ms\" or \"2m\", \
             not \"10 parsecs\"",
        ),
        (
            "heartbeat = \"2h\"",
            "throng.toml, line 1: heartbeat must be a duration from \"50ms\" to \"1h\", not \"2h\"",
        ),
        (
            "workers = 1.5",
            "throng.toml, line 1: workers must be \"auto\" or a number from 1 to 1024, not 1.5",
        ),
        (
            "[echo]\nroom = \"x\"\n",
            "throng.toml, line 2: there is no key \"echo.room\"; did you mean rooms.room?",
        ),
        ("[[listener]]\npages = true\n", "throng.toml, line 1: a listener needs an address"),
        (
            "listener = 3000\n",
            "throng.toml, line 1: listener must be a list of tables: [[listener]]",
        ),
        (
            "[[listener]]\naddress = \"example.org:80\"\n",
            "throng.toml, line 2: address must be an address such as 3000, localhost:3000, \
             127.0.0.1:3000, [::1]:3000 or *:3000, not \"example.org:80\"",
        ),
        (
            "[[listener]]\naddress = 3000\nendpoint = {}\n",
            "throng.toml, line 3: a listener has no key \"endpoint\"; did you mean endpoints?",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\n\"/\" = \"rely\"\n",
            "throng.toml, line 4: kind of / must be rooms, relay, echo or off, not \"rely\"",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\nws = \"rooms\"\n",
            "throng.toml, line 4: an endpoint's path must be like /ws, not \"ws\"",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\n\"/ws/{room}\" = \"rooms\"\n",
            "throng.toml, line 4: an endpoint's path must be like /ws, not \"/ws/{room}\"; /ws brings \
             /ws/{room} with it",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\n\"/x\" = { max_mesage = 3 }\n",
            "throng.toml, line 4: an endpoint has no key \"max_mesage\"; did you mean max_message?",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\n\"/x\" = { max_message = 3 }\n",
            "throng.toml, line 4: /x needs a kind: rooms, relay or echo",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\n\"/metrics\" = \"echo\"\n",
            "throng.toml, line 4: /metrics is taken by the listener itself; choose another path or \
             set ops = false",
        ),
        (
            "[[listener]]\naddress = 3000\n[[listener]]\naddress = \"localhost:3000\"\n",
            "throng.toml, line 4: localhost:3000 is listed twice",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints]\n\"/x\" = { kind = \"off\", slow = \"drop\" }\n",
            "throng.toml, line 4: slow of /x has no effect, the endpoint is off",
        ),
        (
            "[[listener]]\naddress = 3000\n[listener.endpoints.\"/x\"]\ndeflate = false\nkind = \"off\"\n",
            "throng.toml, line 4: deflate of /x has no effect, the endpoint is off",
        ),
        (
            "[api]\nkeys = [\"tk_abc\"]\n",
            "throng.toml, line 2: api.keys must be a list, each item NAME:HASH as `throng key new` \
             prints it: the hash of 64 hexadecimal digits, not the key",
        ),
    ] {
        assert_eq!(file_error(file), sentence, "{file}");
    }
    for file in ["workers = ", "workers = 1\nworkers = 2\n", "[limits\n"] {
        let sentence = file_error(file);
        assert!(sentence.starts_with("throng.toml, line "), "{sentence}");
        assert!(sentence.contains(": not valid TOML: "), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn what_does_not_fit_together_gets_one_sentence() {
    let file = format!("{SECRET:?}");
    for (text, sentence) in [
        (
            format!("[jwt]\nsecret_file = {file}\n"),
            "jwt has keys, but no algorithms: set jwt.algorithms to those your tokens are signed with, \
             such as [\"ES256\"]",
        ),
        (
            format!("[jwt]\nalgorithms = [\"HS256\"]\nkey_file = {file}\n"),
            "jwt.algorithms has HS256, which needs jwt.secret_file",
        ),
        (
            format!("[jwt]\nalgorithms = [\"ES256\"]\nsecret_file = {file}\n"),
            "jwt.algorithms has RS256, ES256 or EdDSA, which need jwt.key_file, jwt.jwks_url or \
             jwt.jwks_file",
        ),
        (
            "[jwt]\nalgorithms = [\"none\"]\n".into(),
            "throng.toml, line 2: jwt.algorithms must be a list of HS256, RS256, ES256, EdDSA, not \
             [\"none\"]",
        ),
        ("[jwt]\nuser_claim = \"\"\n".into(), "jwt.user_claim must name a claim, such as \"sub\""),
        (
            "[jwt]\nalgorithms = [\"EdDSA\"]\nkey_file = \"no/such.pem\"\n".into(),
            "jwt.key_file: cannot read no/such.pem: no such file or directory",
        ),
        (
            "[jwt]\nalgorithms = [\"HS256\"]\nsecret_file = \"/dev/null\"\n".into(),
            "jwt.secret_file: the secret in /dev/null must have at least 32 bytes, not 0; draw one with \
             `openssl rand -hex 32`",
        ),
        (
            "[webhook]\nurl = \"https://a.example\"\n".into(),
            "webhook.url needs webhook.secret_file, by which the questions are signed",
        ),
        ("[webhook]\nlogin = true\n".into(), "webhook.login needs webhook.url"),
        (
            format!("[webhook]\nurl = \"https://a\"\nsecret_file = {file}\nlogin = true\n"),
            "webhook.login needs login.enabled = true, or nobody can log in",
        ),
        (
            "[webhook]\nurl = \"https://me:pass@a.example\"\n".into(),
            "throng.toml, line 2: webhook.url must be a URL such as https://auth.example.org/check, \
             without name and password in it",
        ),
        (
            format!("[tls]\ncert = [{file}]\n"),
            "tls.cert and tls.key must be as many: there are 1 and 0",
        ),
        (
            "[tls]\ncert = \"no.pem\"\nkey = \"no.pem\"\n".into(),
            "tls.cert: cannot read no.pem: no such file or directory",
        ),
        (
            "[[listener]]\naddress = 443\ntls = true\n".into(),
            "the listener localhost:443 has tls = true, which needs tls.cert and tls.key, or \
             tls.acme_domains",
        ),
        (
            "[[listener]]\naddress = 80\nredirect = \"https\"\n".into(),
            "a listener redirects to https, but none has tls = true",
        ),
        (
            "[[listener]]\naddress = 80\nredirect = \"https\"\ntls = true\n".into(),
            "throng.toml, line 2: a listener that speaks TLS cannot redirect to https; take tls or \
             redirect away",
        ),
        (
            "[[listener]]\naddress = 80\nredirect = \"https\"\nendpoints = { \"/ws\" = \"rooms\" }\n".into(),
            "throng.toml, line 4: /ws cannot be here: the listener only redirects to https",
        ),
        (
            "[[listener]]\naddress = 80\nredirect = true\n".into(),
            "throng.toml, line 3: redirect must be \"https\" or \"off\", not true",
        ),
        ("[tls]\nclient_auth = \"required\"\n".into(), "tls.client_auth needs tls.client_ca"),
        (
            "[tls]\nacme_domains = [\"a.example\"]\n".into(),
            "tls.acme_domains needs a directory to keep the certificates in: set tls.acme_cache or data",
        ),
        (
            "[[listener]]\naddress = 80\nproxy_protocol = true\n".into(),
            "the listener localhost:80 has proxy_protocol = true, which needs limits.trusted_proxies: \
             from where PROXY headers are believed",
        ),
        (
            "[access]\nanonymous = [\"a=see\"]\n".into(),
            "throng.toml, line 2: access.anonymous must be a list of at most 64 grants such as \
             [\"lobby\", \"chat:*\", \"news:*=join,send:chat,presence,history\"], not [\"a=see\"]",
        ),
        (
            "[rooms]\nrate = \"fast\"\n".into(),
            "throng.toml, line 2: rooms.rate must be a rate such as \"200/s\", \"200/s burst 1000\" \
             or \"10/m\", or \"off\", not \"fast\"",
        ),
        (
            "[limits]\nmemory = \"1KiB\"\n".into(),
            "throng.toml, line 2: limits.memory must be \"auto\" or a size from \"16MiB\" to \
             \"1048576GiB\", not \"1KiB\"",
        ),
        (
            "[[room]]\nmatch = \"a\"\nslow_key = \"x\"\n".into(),
            "throng.toml, line 2: slow_key has an effect only with slow = \"latest\"",
        ),
        (
            "[[room]]\nmatch = \"a\"\n[room.types.chat]\ncost = 0\n".into(),
            "throng.toml, line 4: cost of chat must be a number from 1 to 1000000, not 0",
        ),
    ] {
        assert_eq!(file_error(&text), sentence, "{text}");
    }
}

#[test]
fn listeners_can_be_told_in_words() {
    let config = ok(
        "[limits]\ntrusted_proxies = \"10.0.0.1\"\n",
        &[],
        &[
            "--listen",
            "8443 tls=on proxy_protocol=on",
            "--listen",
            "8080 redirect=https",
            "tls.cert",
            SECRET,
            "tls.key",
            SECRET,
        ],
    );
    let [first, second] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert!(first.tls && first.proxy_protocol && !first.redirect);
    assert!(!second.tls && !second.proxy_protocol && second.redirect);
}

#[test]
fn secrets_are_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "the-most-secret-secret-of-them-all").unwrap();
    let path = path.to_str().unwrap();
    let config = ok("", &[], &["jwt.algorithms", "HS256", "jwt.secret_file", path]);
    assert!(print(&config).contains(path));
    assert!(!print(&config).contains("the-most-secret"));
    assert!(!format!("{config:?}").contains("the-most-secret"));
}

#[test]
fn a_wrong_rule_for_rooms_gets_one_sentence_with_the_line() {
    for (rule, sentence) in [
        ("history = 5\n", "line 1: a room needs a match such as \"chat:*\""),
        (
            "match = \"a room\"\n",
            "line 2: match must be a pattern such as \"chat:*\": 1 to 128 characters of \
             A-Z a-z 0-9 _ . : @ / - and * for any run of them, not \"a room\"",
        ),
        (
            "match = \"a\"\nhistroy = 5\n",
            "line 3: a room has no key \"histroy\"; did you mean history?",
        ),
        (
            "match = \"a\"\nhistory = \"many\"\n",
            "line 3: history must be a number from 0 to 1000000, not \"many\"",
        ),
        (
            "match = \"a\"\npresence = \"none\"\n",
            "line 3: presence must be \"full\", \"count\" or \"off\", not \"none\"",
        ),
        (
            "match = \"a\"\nvolatile = true\nhistory = 5\n",
            "line 2: a volatile room (a) has no history: take `history` or `volatile` away",
        ),
        (
            "match = \"a\"\nvolatile = true\ndurable = true\n",
            "line 2: a volatile room (a) is not kept on disk: take `durable` or `volatile` away",
        ),
        (
            "match = \"a\"\nother_types = false\n",
            "line 2: with other_types = false and no [room.types.…], nothing can be said in a; add a \
             type, or use allow = false",
        ),
        (
            "match = \"a\"\n[[room]]\nmatch = \"*\"\n[[room]]\nmatch = \"b\"\n",
            "line 6: the room \"b\" is never reached, the first match counts and \"*\" stands before it",
        ),
        ("match = \"a\"\ntypes = [\"chat\"]\n", "line 3: types must be tables: [room.types.NAME]"),
        (
            "match = \"a\"\ntypes = { chat = true }\n",
            "line 3: chat must be a table: [room.types.chat]",
        ),
        (
            "match = \"a\"\n[room.types.chat]\nshema = {}\n",
            "line 4: a type has no key \"shema\"; did you mean schema?",
        ),
        (
            "match = \"a\"\n[room.types.chat]\nschema = \"chat.json\"\n",
            "line 4: schema of chat must be a table such as { type = \"object\" }; for a file there is \
             schema_file",
        ),
        (
            "match = \"a\"\n[room.types.chat]\nschema_file = \"no/such.json\"\n",
            "line 4: schema_file of chat: no/such.json cannot be read: no such file or directory",
        ),
        (
            "match = \"a\"\n[room.types.chat]\nschema = { const = 1979-05-27 }\n",
            "line 4: a schema cannot hold a date",
        ),
        (
            "match = \"a\"\n[room.types.chat]\nschema = { maximum = inf }\n",
            "line 4: a schema cannot hold a number that is not finite",
        ),
    ] {
        assert_eq!(file_error(&format!("[[room]]\n{rule}")), format!("throng.toml, {sentence}"));
    }
    assert_eq!(
        file_error("[room]\nmatch = \"a\"\n"),
        "throng.toml, line 1: room must be a list of tables: [[room]]"
    );
    let sentence = file_error("[[room]]\nmatch = \"a\"\n[room.types.c]\nschema = { type = 5 }\n");
    let start = "throng.toml, line 4: schema of c cannot be used: ";
    assert!(sentence.starts_with(start) && !sentence.contains('\n'), "{sentence}");
}

#[test]
fn schemas_may_be_files_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("throng.toml");
    let text = "[[room]]\nmatch = \"a\"\n[room.types.c]\nschema_file = \"c.json\"\n";
    let load = |schema: &str| {
        std::fs::write(directory.path().join("c.json"), schema).unwrap();
        std::fs::write(&path, text).unwrap();
        Config::load(&Flags { file: Some(path.clone()), ..Flags::default() }, &[], MACHINE)
    };
    let config = load("{\"required\": [\"text\"]}").unwrap();
    assert!(config.rooms[0].types["c"].schema().is_some());
    assert!(print(&config).contains("\n[room.types.c]\nschema_file = \"c.json\"\n"));
    let sentence = load("{").unwrap_err().to_string();
    assert!(
        sentence.contains("line 4: schema_file of c: c.json is not valid JSON: "),
        "{sentence}"
    );
    let sentence = load("{\"type\": 5}").unwrap_err().to_string();
    assert!(sentence.contains("c.json cannot be used: "), "{sentence}");
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_are_ignored() {
    let variables = [
        ("THRONG_SERVICE_HOST", "10.0.0.1"),
        ("THRONG_SERVICE_PORT", "3000"),
        ("THRONG_SERVICE_PORT_HTTP", "3000"),
        ("THRONG_PORT", "tcp://10.0.0.1:3000"),
        ("THRONG_PORT_3000_TCP", "tcp://10.0.0.1:3000"),
        ("THRONG_PORT_3000_TCP_PROTO", "tcp"),
        ("THRONG_PORT_3000_TCP_PORT", "3000"),
        ("THRONG_PORT_3000_TCP_ADDR", "10.0.0.1"),
        ("THRONG_API_SERVICE_HOST", "10.0.0.2"),
        ("THRONG_API_PORT", "tcp://10.0.0.2:80"),
    ];
    let config = ok("", &variables, &[]);
    assert_eq!(config.foreign.len(), variables.len());
    let plain = ok("", &[], &[]);
    assert_eq!(Config { foreign: Vec::new(), ..config }, plain);
    for (name, value) in
        [("THRONG_PORT", "3000"), ("THRONG_PORT_HTTP", "x"), ("THRONG_PORT_80_TCP_X", "x")]
    {
        let sentence = build("", &[(name, value)], &[]).unwrap_err();
        assert!(sentence.starts_with(&format!("{name} is not a setting of throng")), "{sentence}");
    }
    let port = build("", &[("THRONG_PORT", "3000")], &[]).unwrap_err();
    assert!(port.ends_with("; for the port there is THRONG_LISTEN"), "{port}");
}

#[test]
fn a_wrong_variable_or_flag_gets_one_sentence_with_its_name() {
    let variable = |name, value| build("", &[(name, value)], &[]).expect_err(name);
    assert_eq!(
        variable("THRONG_WORKRES", "2"),
        "THRONG_WORKRES is not a setting of throng; did you mean THRONG_WORKERS?"
    );
    assert_eq!(
        variable("THRONG_WORKERS", "many"),
        "THRONG_WORKERS must be \"auto\" or a number from 1 to 1024, not \"many\""
    );
    assert_eq!(
        variable("THRONG_LISTEN", "3000 /x=rely"),
        "THRONG_LISTEN: kind of /x must be rooms, relay, echo or off, not \"rely\""
    );
    let secret = variable("THRONG_API_KEYS", "tk_secret");
    assert!(
        secret.starts_with("THRONG_API_KEYS must be ") && !secret.contains("secret"),
        "{secret}"
    );
    let flag = |flags: &[&str]| build("", &[], flags).expect_err("flags");
    assert_eq!(
        flag(&["--endpoint", "/=off,slow=drop"]),
        "--endpoint: slow of / has no effect, the endpoint is off"
    );
    assert_eq!(
        flag(&["--endpoint", "relay"]),
        "--endpoint must be PATH=KIND such as /relay=relay, not \"relay\""
    );
    assert_eq!(
        flag(&["--listen", "3000 page=off"]),
        "--listen: a listener has no key \"page\"; did you mean pages?"
    );
    assert_eq!(
        flag(&["rooms.flsuh", "1"]),
        "--set rooms.flsuh: there is no key \"rooms.flsuh\"; did you mean rooms.flush?"
    );
    assert_eq!(
        flag(&["rooms.flush", "1s"]),
        "--set rooms.flush must be \"auto\" or a duration from \"0s\" to \"50ms\", not \"1s\""
    );
}

#[test]
fn a_named_file_must_be_there() {
    let flags = Flags { file: Some("no/such/throng.toml".into()), ..Flags::default() };
    let sentence = Config::load(&flags, &[], MACHINE).unwrap_err().to_string();
    assert_eq!(sentence, "cannot read no/such/throng.toml: no such file or directory");
    let variables = [("THRONG_CONFIG".to_owned(), "also/missing.toml".to_owned())];
    let sentence = Config::load(&Flags::default(), &variables, MACHINE).unwrap_err().to_string();
    assert!(sentence.starts_with("cannot read also/missing.toml: "), "{sentence}");
}
