use std::collections::{HashMap, HashSet};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throng_backend::{Begun, NewTicket, Redeemed};
use throng_hub::Unavailable;

use super::rig::*;

/// This test again, as a process of its own that runs only [`child`].
fn start(mode: &str, dir: &Path) -> Child {
    // The shell makes it outlive a file that grows too large.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "process::child", "--nocapture"])
        .env("CHILD", mode)
        .env("CHILD_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "started by the others"]
fn child() {
    let dir = env::var("CHILD_DIR").unwrap();
    let dir = Path::new(&dir);
    match env::var("CHILD").unwrap().as_str() {
        "redeem" => redeem_on(dir),
        "revoke" => {
            let vault = file(dir);
            assert_eq!(ask(|done| vault.revoke_user("ada", NOW, done)), Ok(1));
            ask(|done| vault.set_ban(ban("", "ada", None), done)).unwrap();
            vault.close();
        }
        "small" => run_out_of_space(dir),
        other => panic!("{other}"),
    }
}

#[test]
fn another_process_commits() {
    let dir = tempfile::tempdir().unwrap();
    let server = file(dir.path());
    begin(&server, row("s_1", "ada"));
    let (tell, told) = mpsc::channel();
    server.on_change(move || {
        let _ = tell.send(());
    });
    let output = start("revoke", dir.path()).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    told.recv_timeout(LONG).unwrap();
    assert_eq!(gone(&server, &["s_1"]), ["s_1"]);
    until(|| server.bans() == [ban("", "ada", None)]);
    assert_eq!(begin(&server, row("s_2", "ada")), Begun::Revoked);
}

/// Issues and redeems until the process is killed, and tells each answer.
fn redeem_on(dir: &Path) {
    let vault = file(dir);
    let tell = |line: String| std::io::stdout().write_all(line.as_bytes()).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let vault = &vault;
            scope.spawn(move || {
                for n in (thread..).step_by(4) {
                    issue(vault, ticket(n, "ada"));
                    tell(format!("> issued {n}\n"));
                    // Every third one stays good.
                    if n % 3 != 0 {
                        assert_eq!(redeem(vault, n, &format!("s_{n}")), admitted(n, "ada", NOW));
                        tell(format!("> redeemed {n}\n"));
                    }
                }
            });
        }
    });
}

#[test]
fn a_redeemed_ticket_stays_so_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    for lines in [1, 20, 500] {
        let dir = dir.path().join(lines.to_string());
        let mut child = start("redeem", &dir);
        let mut told: HashMap<u32, bool> = HashMap::new();
        let mut count = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(line) = line.strip_prefix("> ") else { continue };
            let (what, n) = line.split_once(' ').unwrap();
            let Ok(n) = n.parse() else { continue };
            *told.entry(n).or_default() |= what == "redeemed";
            count += 1;
            if count == lines {
                child.kill().unwrap(); // SIGKILL; what it told until then is still in the pipe
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(count >= lines);
        let vault = file(&dir);
        let (mut used, mut good) = (0, 0);
        for (n, redeemed) in told {
            let before = find(&vault, &format!("s_{n}"));
            let again = redeem(&vault, n, "s_again");
            vault.end("s_again");
            assert_eq!(again == Redeemed::Unknown, before.is_some(), "{n}: one of both");
            if redeemed {
                assert_eq!(again, Redeemed::Unknown, "ticket {n} is good again");
                used += 1;
            } else if n % 3 == 0 {
                assert_eq!(again, admitted(n, "ada", NOW), "ticket {n} is lost");
                good += 1;
            }
        }
        assert!(lines < 20 || used > 0 && good > 0, "{used} {good}");
    }
}

#[test]
fn no_space_left_and_then_again() {
    let dir = tempfile::tempdir().unwrap();
    let child = start("small", dir.path()).wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}");
    let stored = output.split("stored ").nth(1).unwrap().split(' ').next().unwrap();
    let vault = file(dir.path());
    assert_eq!(vault.stats().tickets, stored.parse::<u64>().unwrap());
    assert_eq!(gone(&vault, &["s_over", "s_kept"]), ["s_over"]);
}

/// Files must not become larger than 1 MiB; then they may again.
fn run_out_of_space(dir: &Path) {
    let vault = file(dir);
    begin(&vault, row("s_over", "ada"));
    begin(&vault, row("s_kept", "ada"));
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), ..before }).unwrap();
    let large = |n| NewTicket { record: "x".repeat(20_000), ..ticket(n, "ada") };
    let (mut stored, mut refused) = (HashSet::new(), 0);
    for n in 0.. {
        match ask(|done| vault.issue(large(n), done)) {
            Ok(()) => _ = stored.insert(n),
            Err(Unavailable) => refused += 1,
        }
        if refused == 5 {
            break;
        }
    }
    assert!(stored.len() > 10, "{}", stored.len());
    assert!(vault.stats().trouble.is_some());
    assert_eq!(vault.stats().tickets, stored.len() as u64, "those that were refused do not count");
    // What only reads goes on; what must be done waits.
    assert_eq!(gone(&vault, &["s_over", "s_9"]), ["s_9"]);
    assert_eq!(ask(|done| vault.users(None, 10, done)), Ok(vec![]));
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..before }).unwrap();
    let failed = ask(|done| vault.redeem(hash(0), None, NOW, session("s_1"), done));
    assert_eq!(failed, Err(Unavailable));
    vault.end("s_over");
    setrlimit(Resource::Fsize, before).unwrap();
    until(|| vault.stats().queued == 0);
    assert_eq!(gone(&vault, &["s_over", "s_kept", "s_1"]), ["s_over", "s_1"]);
    for n in 100_000..100_200 {
        issue(&vault, large(n));
        stored.insert(n);
    }
    assert_eq!(vault.stats().trouble, None, "by itself");
    let again = ask(|done| vault.redeem(hash(0), None, NOW, session("s_1"), done)).unwrap();
    assert!(matches!(again, Redeemed::Admitted { .. }), "what was refused has not happened");
    println!("stored {} ", stored.len() - 1);
    // Not in good order: what was answered is there regardless.
    std::process::exit(0);
}
