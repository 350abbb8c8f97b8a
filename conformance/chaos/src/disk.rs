//! A disk that fails: full, read-only, or files that may not grow.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::record::Event;
use crate::run::Run;
use crate::victim::Process;

/// In which way nothing can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Files of the process may not grow (`RLIMIT_FSIZE`); needs no privileges. Writes are cut in
    /// the middle of a record.
    Limit,
    /// No space left, on a small file system of its own; needs the right to mount.
    Full,
    /// The server is started on a read-only file system; needs the right to mount.
    ReadOnly,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Limit, Self::Full, Self::ReadOnly];

    /// Whether it needs a file system of its own.
    pub fn needs_mount(self) -> bool {
        self != Self::Limit
    }
}

/// A small file system in memory, unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts it, if that is allowed.
    ///
    /// # Errors
    /// When it is not.
    pub fn mount(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let arguments = ["-t", "tmpfs", "-o", "size=24m,mode=0777", "throng-chaos"];
        mount("mount", arguments.map(OsString::from).into_iter().chain([path.into()]))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = mount("umount", ["-l".into(), self.path.clone().into()]);
    }
}

/// Lets storing fail several times: it comes back by itself, after a kill, and before one.
///
/// # Errors
/// When the server does not start again.
pub async fn harm(run: &mut Run<Process>, failure: Failure, data: &Path) -> io::Result<()> {
    if failure == Failure::ReadOnly {
        return read_only(run, data).await;
    }
    let filler = data.join("filler");
    for outage in [Outage::Short, Outage::Killed, Outage::ThenKilled] {
        sleep(Duration::from_millis(1500)).await;
        match failure {
            Failure::Full => fill(&filler)?,
            _ => run.victim.limit_files(Some(largest(data)? + run.dice.below(400)))?,
        }
        run.write(Event::Disk { works: false });
        let board = Arc::clone(&run.board);
        let (_, before) = board.answers();
        let refused = |_: &[_]| board.answers().1 > before;
        run.until("a publish to be refused", Duration::from_secs(10), refused).await?;
        sleep(run.dice.between(Duration::from_millis(300), Duration::from_millis(1500))).await;
        if outage == Outage::Killed {
            run.kill().await?;
            if failure == Failure::Full && run.start_or_be_refused().await? {
                sleep(Duration::from_millis(500)).await;
            }
        }
        match failure {
            Failure::Full => fs::remove_file(&filler)?,
            _ if outage == Outage::Killed => {} // the limit was the process's
            _ => run.victim.limit_files(None)?,
        }
        run.write(Event::Disk { works: true });
        if outage == Outage::Killed && run.victim.id().is_none() {
            run.start().await?;
        }
        works_again(run).await?;
        if outage == Outage::ThenKilled {
            run.kill_and_start().await?;
        }
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// It passes, and the server goes on.
    Short,
    /// The server is killed while it lasts.
    Killed,
    /// The server is killed soon after.
    ThenKilled,
}

/// A file system becomes read-only only while nobody has a file open for writing, so the server is
/// killed before. Until it is writable again the server must not start, or refuse publishes.
async fn read_only(run: &mut Run<Process>, data: &Path) -> io::Result<()> {
    for _ in 0..2 {
        sleep(Duration::from_millis(1500)).await;
        run.kill().await?;
        remount(data, "ro").await?;
        let started = run.start_or_be_refused().await?;
        if started {
            run.write(Event::Disk { works: false });
            sleep(Duration::from_secs(2)).await;
            run.kill().await?;
        }
        remount(data, "rw").await?;
        if started {
            run.write(Event::Disk { works: true });
        }
        run.start().await?;
        works_again(run).await?;
    }
    Ok(())
}

async fn works_again(run: &mut Run<Process>) -> io::Result<()> {
    let board = Arc::clone(&run.board);
    let (before, _) = board.answers();
    let acked = |_: &[_]| board.answers().0 > before + 20;
    run.until("publishing to work again", Duration::from_secs(15), acked).await
}

/// The size of the largest file.
fn largest(folder: &Path) -> io::Result<u64> {
    let mut most = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let size = match entry.metadata() {
            Ok(about) if about.is_dir() => largest(&entry.path())?,
            Ok(about) => about.len(),
            Err(_) => 0, // removed meanwhile
        };
        most = most.max(size);
    }
    Ok(most)
}

/// Takes all the space there is.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    for block in [1 << 20, 4096, 1] {
        loop {
            match file.write_all(&vec![0; block]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// A file system with files open for writing can become read-only at once only by force; where that
/// fails it is tried again.
async fn remount(path: &Path, how: &str) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let option = format!("remount,{how}");
        match mount("mount", ["-o".into(), option.into(), path.into()]) {
            Err(_) if Instant::now() < end => sleep(Duration::from_millis(50)).await,
            done => return done,
        }
    }
}

fn mount(command: &str, arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let output = Command::new(command).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
