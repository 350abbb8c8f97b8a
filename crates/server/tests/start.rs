//! What `throng` does before it serves: help, `throng config`, and one sentence for everything that is wrong.

#![allow(clippy::unwrap_used, reason = "in a test, to panic is to say what is wrong")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Output, Stdio};

use support::throng;

/// Runs it with a file in its directory, and returns the sentence on stderr; the exit code must be 2.
fn refusal(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("throng.toml"), file).unwrap();
    let mut command = throng(directory.path());
    let output = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    sentence.trim_end().to_owned()
}

fn run(arguments: &[&str], file: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("throng.toml"), file).unwrap();
    throng(directory.path()).args(arguments).output().unwrap()
}

#[test]
fn a_busy_port_is_one_sentence_and_exit_code_2() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let next = port.saturating_add(1);
    for address in [format!("127.0.0.1:{port}"), port.to_string(), format!("*:{port}")] {
        let sentence = refusal(&["--listen", &address], &[], "");
        let host = if address.starts_with('*') { "0.0.0.0" } else { "127.0.0.1" };
        assert_eq!(
            sentence,
            format!(
                "throng: cannot listen on {host}:{port}: the port is in use; stop the other server, \
                 or choose another port, such as --listen {next}"
            )
        );
    }
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_line() {
    assert_eq!(
        refusal(&[], &[], "workers = 1\n[limits]\nhandshake_timout = \"1s\"\n"),
        "throng: throng.toml, line 3: there is no key \"limits.handshake_timout\"; did you mean \
         limits.handshake_timeout?"
    );
    assert_eq!(
        refusal(&["serve"], &[], "[relay]\nmax_message = \"big\"\n"),
        "throng: throng.toml, line 2: relay.max_message must be a size such as \"64KiB\", \"1MiB\" or \
         4096, not \"big\""
    );
    let sentence = refusal(&["config"], &[], "workers == 1\n");
    assert!(sentence.starts_with("throng: throng.toml, line 1: not valid TOML: "), "{sentence}");
    assert_eq!(
        refusal(&["--config", "other.toml"], &[], ""),
        "throng: cannot read other.toml: no such file or directory"
    );
}

#[test]
fn what_is_wrong_in_variables_and_flags_is_named() {
    assert_eq!(
        refusal(&[], &[("THRONG_HARTBEAT", "5s")], ""),
        "throng: THRONG_HARTBEAT is not a setting of throng; did you mean THRONG_HEARTBEAT?"
    );
    assert_eq!(
        refusal(&["--workers", "0"], &[], ""),
        "throng: --workers must be \"auto\" or a number from 1 to 1024, not \"0\""
    );
    assert_eq!(
        refusal(&["--endpoint", "/x=chat"], &[], ""),
        "throng: --endpoint: kind of /x must be rooms, relay, echo or off, not \"chat\""
    );
    assert_eq!(
        refusal(&["--listen", "example.org"], &[], ""),
        "throng: --listen must be an address such as 3000, localhost:3000, 127.0.0.1:3000, \
         [::1]:3000 or *:3000, not \"example.org\""
    );
}

#[test]
fn unknown_flags_are_told_with_the_right_one() {
    let output = run(&["--endpont", "/=echo"], "");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("'--endpont'") && text.contains("'--endpoint'"), "{text}");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["config", "-h"], &["--version"]] {
        let output = run(arguments, "broken = file");
        assert!(output.status.success(), "{arguments:?} {output:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn config_prints_what_it_reads() {
    let print = |arguments: &[&str], file: &str| {
        let mut all = vec!["config"];
        all.extend(arguments);
        let output = run(&all, file);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let default = print(&[], "");
    assert_eq!(print(&[], &default), default);
    for line in default.lines() {
        let width = line.chars().count();
        assert!(width <= 110 || line.starts_with("origins"), "{width}: {line}");
    }

    let flags =
        ["--listen", "[::1]:4000", "--endpoint", "/=relay,flush=5ms", "--set", "echo.slow=drop"];
    let changed = print(&flags, "shutdown_grace = \"3s\"\n");
    assert!(changed.contains("\nshutdown_grace = \"3s\"\n"), "{changed}");
    assert!(changed.contains("\naddress = \"[::1]:4000\"\n"), "{changed}");
    assert!(changed.contains("\n\"/\" = { kind = \"relay\", flush = \"5ms\" }\n"), "{changed}");
    assert_eq!(print(&[], &changed), changed);
}

#[test]
fn a_new_key_is_two_lines_for_a_machine_and_advice_for_people() {
    let output = run(&["key", "new", "--name", "ci"], "broken = file");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let [key, line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(key.starts_with("tk_") && key.len() == 35, "{key}");
    assert!(line.starts_with("ci:") && line.len() == 67, "{line}");
    let advice = String::from_utf8(output.stderr).unwrap();
    assert!(advice.contains("keys = [") && !advice.contains(key), "{advice}");

    let file = format!("[api]\nkeys = [\"{line}\"]\n");
    let server = support::Server::start_with(&["--listen", "127.0.0.1:0"], &file);
    let bearer = format!("Bearer {key}");
    let answer = server.ask("GET", "/api/v1/counts", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_one_sentence() {
    let sentence = refusal(&["--listen", "127.0.0.1:0", "--data", "throng.toml"], &[], "");
    assert!(sentence.starts_with("throng: "), "{sentence}");
}

#[test]
fn variables_of_kubernetes_do_not_stop_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = throng(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "json"]);
    command.envs([
        ("THRONG_SERVICE_HOST", "10.0.0.1"),
        ("THRONG_PORT", "tcp://10.0.0.1:3000"),
        ("THRONG_PORT_3000_TCP_ADDR", "10.0.0.1"),
    ]);
    let server = support::Server::spawn(command, directory);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn people_are_told_what_to_open_and_the_data_directory_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = throng(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--data", "somewhere"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = told.find_map(|line| {
        let line = line.unwrap();
        Some(line.trim_start().strip_prefix("http://")?.split_once("  the chat")?.0.to_owned())
    });
    let connected = std::net::TcpStream::connect(address.unwrap());
    let open =
        told.find(|line| line.as_ref().unwrap().contains("Anonymous visitors may use lobby,"));
    let hint = told.find(|line| line.as_ref().unwrap().contains("Only this machine can connect."));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(connected.is_ok() && open.is_some() && hint.is_some(), "{log}");
    assert!(log.contains("Anonymous visitors may use lobby, demo:*"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
    assert!(directory.path().join("somewhere").is_dir());
}
