//! The configuration files of a process as a sample found them on disk.

use super::declared::Declared;
use super::port_index::PortIndex;
use super::time::{UnixSeconds, is_surely_after};

/// The configuration files of a process as they are on disk, which the next reload would load.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// What the files declare.
    pub declared: Declared,
    /// The declared ports.
    pub ports: PortIndex,
    /// Every file could be read, so that a listener that is not in `declared` is not declared.
    pub complete: bool,
    /// Why a file could not be read, of the first such file; `None` if all could.
    pub unread: Option<String>,
    /// A hash of the names and contents of the files.
    pub fingerprint: u64,
    /// A hash of the contents without their secrets, equal on hosts that have the same; `None` if a file could
    /// not be read.
    pub digest: Option<u64>,
    /// When the content of a file was changed last (`mtime`).
    pub modified: UnixSeconds,
    /// When a file was written, moved or given other rights last (`ctime`, which no user can set).
    pub changed: UnixSeconds,
}

impl Configuration {
    /// Whether nothing has happened to its files since `started`: a process of that age has loaded what they say.
    #[must_use]
    pub fn was_there_at(&self, started: UnixSeconds) -> bool {
        !is_surely_after(self.modified.max(self.changed), started)
    }

    /// Whether a file was changed after `started`. A file written just before the start does not count.
    #[must_use]
    pub fn is_newer_than(&self, started: UnixSeconds) -> bool {
        is_surely_after(self.modified, started)
    }
}
