//! What is left on the host, and what the exporter itself uses.

/// What is left of memory and pids, where a limit is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// The exporter's own standard process metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnProcess {
    /// User and system CPU time.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Limit on them.
    pub max_fds: Option<u64>,
    /// Virtual memory.
    pub virtual_memory_bytes: u64,
    /// Resident memory.
    pub resident_memory_bytes: u64,
    /// Start, unix seconds.
    pub start_timestamp_seconds: f64,
    /// Threads.
    pub threads: u64,
}
