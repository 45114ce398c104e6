//! A control group of its own for one machine: systemd-nspawn makes its groups beside the caller's,
//! under names that are always the same, so two machines in one group would share them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One directory in each hierarchy that systemd keeps its units in; removed when it is dropped.
pub struct Cgroup {
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// # Panics
    /// When no such hierarchy is mounted, or it cannot be written.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // No pid: two pid namespaces may share the hierarchies.
        let name = format!("systemd-test-{}", now.as_nanos());
        let mut cgroup = Self { directories: Vec::new() };
        for mount in hierarchies() {
            let directory = mount.join(&name);
            fs::create_dir(&directory).unwrap_or_else(|why| {
                panic!("{}: {why}: no systemd can boot in a container here", directory.display())
            });
            cgroup.directories.push(directory);
        }
        let found = !cgroup.directories.is_empty();
        assert!(found, "no control groups are mounted: no systemd can boot in a container here");
        cgroup
    }

    /// The files that a process writes its pid to in order to enter.
    pub fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            remove(directory);
        }
    }
}

/// Mount points of the unified hierarchy and of systemd's own one of version 1.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let systemds = |line: &&str| {
        let mut fields = line.split(' ').skip(2);
        let (kind, options) = (fields.next(), fields.next().unwrap_or_default());
        kind == Some("cgroup2")
            || kind == Some("cgroup") && options.split(',').any(|option| option == "name=systemd")
    };
    let points = mounts.lines().filter(systemds).filter_map(|line| line.split(' ').nth(1));
    points.map(PathBuf::from).collect()
}

fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // Fails only where a process is left, which the machine's end has excluded.
    let _ = fs::remove_dir(directory);
}
