//! The configuration files of a process as a sample found them on disk.

use super::declared::{Declared, PortIndex};
use super::time::UnixSeconds;

/// Dates of files and start times of processes are compared no closer than this.
const SLACK_SECONDS: f64 = 1.0;

/// The configuration files of a process as they are on disk: what it would load next.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// What they declare.
    pub declared: Declared,
    /// Its ports.
    pub ports: PortIndex,
    /// All of them could be read, so what is not declared is really not.
    pub complete: bool,
    /// A hash of names and contents.
    pub fingerprint: u64,
    /// When the newest was changed.
    pub modified: UnixSeconds,
}

impl Configuration {
    /// It was changed after `started`. What was written just before a start may seem younger by
    /// the ticks that start times are counted in.
    #[must_use]
    pub fn is_newer_than(&self, started: UnixSeconds) -> bool {
        self.modified > started + SLACK_SECONDS
    }
}
