//! The resources that are left on the host, and those that the exporter uses.

/// The memory and pids that are left; `None` where no limit is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Memory that is left.
    pub memory_bytes: Option<u64>,
    /// Processes and threads that can still be started.
    pub pids: Option<u64>,
}

/// The standard process metrics of the exporter itself (`/proc/self`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnProcess {
    /// The user and system CPU time it has used.
    pub cpu_seconds: f64,
    /// Its open descriptors.
    pub open_fds: u64,
    /// The soft limit on descriptors; `None` if unlimited.
    pub max_fds: Option<u64>,
    /// Its virtual memory.
    pub virtual_memory_bytes: u64,
    /// Its resident memory.
    pub resident_memory_bytes: u64,
    /// When it was started, in unix seconds.
    pub start_timestamp_seconds: f64,
    /// Its threads.
    pub threads: u64,
}
