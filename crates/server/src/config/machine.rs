//! How much memory there is: what `limits.memory = "auto"` depends on.

use std::fs;
use std::path::Path;

/// The memory of the machine, or of the control group this process is in when that is less. Where it cannot
/// be found out, 2 GiB.
pub(crate) fn memory() -> usize {
    let ram = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_group = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    [ram, of_group].into_iter().flatten().min().unwrap_or(2 << 30)
}

/// `MemTotal:       16384 kB`
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The tightest limit on the way from the root to the group, of version 2 or 1. In a container the root is
/// most often the group itself.
fn group_limit(groups: &str, root: &Path) -> Option<usize> {
    let read = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let mut tightest: Option<usize> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        let limits = path.ancestors().filter_map(|group| read(&base.join(group).join(file)));
        tightest = tightest.into_iter().chain(limits).min();
    }
    tightest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16 kB\n"), None.or(Some(16_384)));
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("memory/x")).unwrap();
        fs::write(root.join("a/memory.max"), "5000\n").unwrap();
        fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        fs::write(root.join("memory/x/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(group_limit("0::/a/b\n", root), Some(5000));
        assert_eq!(group_limit("4:cpu,memory:/x\n", root), Some(9_223_372_036_854_771_712));
        assert_eq!(group_limit("0::/\n1:name=systemd:/a\n", root), None);
        assert!(memory() > 1 << 20);
    }
}
