//! `throng check`, and what it says of a real server.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::process::Output;

use support::throng;

fn check(arguments: &[&str], file: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("throng.toml"), file).unwrap();
    let Output { status, stdout, stderr } =
        throng(directory.path()).arg("check").args(arguments).output().unwrap();
    let told = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code(), told)
}

#[test]
fn warnings_fail_only_when_strict() {
    let (code, report) = check(&[], "");
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("Anonymous visitors may use lobby, demo:*"), "{report}");
    let (code, report) = check(&["--strict"], "");
    assert_eq!(code, Some(1), "{report}");

    let closed = "[access]\nanonymous = []\n[[listener]]\naddress = 3000\n\
                  [listener.endpoints]\n\"/relay\" = \"off\"\n\"/echo\" = \"off\"\n";
    let (code, report) = check(&["--strict"], closed);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("What to change for production\n\n  Nothing.\n"), "{report}");
    let (code, report) = check(&["--strict", "--set", "access.anonymous=*"], closed);
    assert_eq!(code, Some(1), "{report}");
}

#[test]
fn what_cannot_be_used_is_no_report() {
    let (code, told) = check(&[], "[webhook]\nurl = \"https://a.example\"\n");
    assert_eq!(code, Some(2));
    let sentence =
        "throng: webhook.url needs webhook.secret_file, by which the questions are signed\n";
    assert_eq!(told, sentence);
}
