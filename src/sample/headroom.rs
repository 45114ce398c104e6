//! The memory and the pids that the host has left.

use std::fs;
use std::path::Path;

use crate::model::Headroom;

/// The headroom of the host (`/proc/meminfo`, `/proc/loadavg`, `kernel.pid_max`, `threads-max`).
#[must_use]
pub fn host_headroom(procfs: &Path) -> Headroom {
    let read = |name: &str| fs::read_to_string(procfs.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let memory_bytes = read("meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    });
    let threads = read("loadavg").and_then(|text| {
        let (_, total) = text.split_ascii_whitespace().nth(3)?.split_once('/')?;
        total.parse::<u64>().ok()
    });
    let limit =
        number("sys/kernel/pid_max").into_iter().chain(number("sys/kernel/threads-max")).min();
    let pids = threads.zip(limit).map(|(used, limit)| limit.saturating_sub(used));
    Headroom { memory_bytes, pids }
}
