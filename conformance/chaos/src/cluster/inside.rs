//! A run in a network namespace of its own, where packets can be lost without harm to others.

use std::io;
use std::process::{Command, Stdio};

/// Plays the run with these arguments again in a namespace of its own, and says how many promises were
/// kept and broken; what it prints otherwise is printed.
///
/// # Errors
/// When that is not possible.
pub fn play_inside(arguments: &[String]) -> io::Result<(usize, usize)> {
    let program = std::env::current_exe()?;
    let mut command = namespace("ip link set lo up && exec \"$@\"");
    command.arg("sh").arg(program).args(arguments).env(INSIDE, "1");
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut counts = None;
    for line in text.lines() {
        match line.strip_suffix(" failed").and_then(|line| line.split_once(" passed, ")) {
            Some((passed, failed)) => counts = passed.parse().ok().zip(failed.parse().ok()),
            None if line.starts_with("== ") => {} // it has been said
            None => println!("{line}"),
        }
    }
    counts.ok_or_else(|| io::Error::other(format!("the run inside ended with {}", output.status)))
}

/// Whether this process is the one inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Why packets cannot be lost here.
pub(super) fn is_impossible() -> Option<String> {
    if is_inside() {
        return None;
    }
    let probe = format!("ip link set lo up && {}", rules(1, 1));
    match namespace(&probe).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("no reason is given");
            Some(format!("no namespace with nft: {said}"))
        }
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Loses so many of a hundred packets from and to a port, in this namespace.
pub(super) fn lose(port: u16, percent: u8) -> io::Result<()> {
    assert!(is_inside(), "nobody else may lose packets");
    shell(&rules(port, percent))
}

/// Loses none any more.
pub(super) fn lose_none() -> io::Result<()> {
    shell("nft delete table inet chaos")
}

fn shell(script: &str) -> io::Result<()> {
    let output = Command::new("sh").args(["-c", script]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", script]).stdin(Stdio::null());
    command
}

fn rules(port: u16, percent: u8) -> String {
    let rule = |side| {
        format!(
            "nft add rule inet chaos way tcp {side} {port} numgen random mod 100 '<' {percent} drop"
        )
    };
    format!(
        "nft add table inet chaos && \
         nft add chain inet chaos way '{{ type filter hook input priority 0; }}' && {} && {}",
        rule("dport"),
        rule("sport")
    )
}

const INSIDE: &str = "CHAOS_INSIDE";
