//! Finds a process through whose root another process's files look as they did when that one was started.

use std::path::Path;

use super::processes::Found;
use crate::sample::proc::dir::ProcDir;

/// The pid of a process whose `/proc/PID/root` shows the files that `found` was started with:
/// itself, unless it has called chroot(2) since; else one of the same mount namespace that has
/// not: another HAProxy, its parent, the exporter, or init.
#[must_use]
pub fn root_view(procfs: &Path, found: &Found, all: &[Found]) -> Option<i32> {
    let process = &found.process;
    if !process.in_own_jail() {
        return Some(process.id.pid);
    }
    let sees = |other: &&Found| {
        other.process.mount_namespace == process.mount_namespace && !other.process.in_own_jail()
    };
    if let Some(other) = all.iter().find(sees) {
        return Some(other.process.id.pid);
    }
    let shares = |pid: &i32| {
        let directory = ProcDir::open(procfs, *pid).ok();
        directory.and_then(|dir| dir.namespace("mnt").ok()) == process.mount_namespace
    };
    let own = own_pid(procfs);
    [Some(process.parent), own, Some(1)].into_iter().flatten().find(shares)
}

/// The exporter's pid as this procfs knows it.
#[must_use]
pub fn own_pid(procfs: &Path) -> Option<i32> {
    std::fs::read_link(procfs.join("self")).ok()?.to_str()?.parse().ok()
}
