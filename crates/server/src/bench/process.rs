//! What the operating system knows of a process: CPU time and memory; and where ours may run.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

use super::report::Failure;

/// Running processes, added up, read through `/proc`.
#[derive(Debug)]
pub(super) struct Process {
    directories: Vec<PathBuf>,
}

impl Process {
    /// Fails when one of them is not there, or cannot be read.
    pub(super) fn open(pids: &[u32]) -> Result<Self, Failure> {
        let directory = |pid: &u32| PathBuf::from(format!("/proc/{pid}"));
        for pid in pids {
            if cpu_ns(&directory(pid)) == 0 {
                return Err(Failure::new(format!("cannot read the CPU time of process {pid}")));
            }
        }
        Ok(Self { directories: pids.iter().map(directory).collect() })
    }

    /// The generator itself.
    pub(super) fn own() -> Self {
        Self { directories: vec![PathBuf::from("/proc/self")] }
    }

    /// CPU time of all living threads, in nanoseconds; 0 for a process that is gone.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.directories.iter().map(|directory| cpu_ns(directory)).sum()
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> Option<u64> {
        self.directories.iter().map(|directory| resident(directory)).sum()
    }
}

fn cpu_ns(directory: &Path) -> u64 {
    let Ok(tasks) = fs::read_dir(directory.join("task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn resident(directory: &Path) -> Option<u64> {
    let rollup = fs::read_to_string(directory.join("smaps_rollup"));
    let (text, name) = match rollup {
        Ok(text) => (text, "Rss:"),
        Err(_) => (fs::read_to_string(directory.join("status")).ok()?, "VmRSS:"),
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Pins this thread, which is the one that makes the load, to a core.
pub(super) fn pin(cpu: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(Failure::new(format!("there is no core {cpu}")));
    }
    cores.set(cpu);
    rustix::thread::sched_setaffinity(None, &cores)
        .map_err(|error| Failure::new(format!("cannot run on core {cpu}: {error}")))
}

/// Raises the limit on open files as far as it is allowed to go.
pub(super) fn allow_files(wanted: usize) -> Result<(), Failure> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let enough = |bound: Option<u64>| bound.is_none_or(|bound| bound >= wanted as u64);
    if enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if !enough(limit.maximum) || rustix::process::setrlimit(Resource::Nofile, raised).is_err() {
        return Err(Failure::new(format!("{wanted} open files are needed; see `ulimit -n`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_figures_are_there() {
        let own = Process::own();
        assert!(own.resident().expect("resident memory") > 100_000);
        assert!(own.cpu_ns() > 0);
        assert!(Process::open(&[std::process::id(), u32::MAX]).is_err());
    }
}
