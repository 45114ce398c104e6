//! What the exporter itself uses, from the real `/proc/self`.

use procfs::process::{Limits, Stat};
use procfs::{Current, FromRead, Uptime};

use crate::model::OwnProcess;

/// Reads the exporter's own process; `None` where `/proc` is not mounted.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counters of one process fit
pub fn own_process() -> Option<OwnProcess> {
    let stat = Stat::from_file("/proc/self/stat").ok()?;
    let limits = Limits::from_file("/proc/self/limits").ok()?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let age = Uptime::current().ok()?.uptime - stat.starttime as f64 / ticks;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Some(OwnProcess {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        open_fds: open_fds()?,
        max_fds: match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit),
            procfs::process::LimitValue::Unlimited => None,
        },
        virtual_memory_bytes: stat.vsize,
        resident_memory_bytes: stat.rss * rustix::param::page_size() as u64,
        start_timestamp_seconds: now.tv_sec as f64 - age.round(),
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
    })
}

/// By the size of the directory, which tells it since Linux 6.2; else by a listing.
fn open_fds() -> Option<u64> {
    const OWN: &str = "/proc/self/fd";
    let counted = std::fs::metadata(OWN).ok()?.len();
    if counted > 0 {
        return Some(counted);
    }
    let listed = std::fs::read_dir(OWN).ok()?.count() as u64;
    Some(listed.saturating_sub(1)) // the listing itself
}
