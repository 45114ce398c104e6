//! What procfs says of the exporter itself.

use std::path::Path;

use procfs::process::{Limits, Stat, Status};
use procfs::{Current, FromRead, Uptime};

use crate::model::OwnProcess;
use crate::sample::clock::now;

/// Reads the exporter's own resources; `None` where `/proc` is not mounted.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counters of one process fit
pub fn own_process() -> Option<OwnProcess> {
    let stat = Stat::from_file("/proc/self/stat").ok()?;
    let limits = Limits::from_file("/proc/self/limits").ok()?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let age = Uptime::current().ok()?.uptime - stat.starttime as f64 / ticks;
    Some(OwnProcess {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        open_fds: open_fds()?,
        max_fds: match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit),
            procfs::process::LimitValue::Unlimited => None,
        },
        virtual_memory_bytes: stat.vsize,
        resident_memory_bytes: stat.rss * rustix::param::page_size() as u64,
        start_timestamp_seconds: now().floor() - age.round(),
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
    })
}

/// Whether this procfs shows the pid namespace of the exporter and no wider one: the exporter's own
/// pid is the same there, and it has no other (`NSpid` in `self/status`).
#[must_use]
pub fn shows_own_pids(procfs: &Path) -> bool {
    let status = Status::from_file(procfs.join("self/status"));
    let pids = status.ok().and_then(|status| status.nspid).unwrap_or_default();
    pids == [std::process::id().cast_signed()]
}

/// The number of open descriptors: the size of the directory since Linux 6.2, else the length of a
/// listing.
fn open_fds() -> Option<u64> {
    const OWN: &str = "/proc/self/fd";
    let counted = std::fs::metadata(OWN).ok()?.len();
    if counted > 0 {
        return Some(counted);
    }
    let listed = std::fs::read_dir(OWN).ok()?.count() as u64;
    Some(listed.saturating_sub(1)) // without the descriptor of the listing itself
}
