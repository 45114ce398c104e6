//! Why a backup or a restore was not done.

use std::io;
use std::path::{Path, PathBuf};

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// What was tried, such as `cannot write`.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The directory of backups is not the caller's alone.
    #[error("another user can change {} or a directory above it; backups hold secrets, so choose a directory that only root or you can write", path.display())]
    Untrusted {
        /// Its path.
        path: PathBuf,
    },
    /// Another run holds the lock.
    #[error("another backup, verification or restore works in {}; wait until it has ended", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file system is too full.
    #[error("{} has {free} bytes free, the backup needs {needed}; free some space or choose another directory with --to", path.display())]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// The bytes that are needed.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// A file did not hold still.
    #[error("{} changed each time it was read; take the backup when nothing writes to it", path.display())]
    Changed {
        /// Its path.
        path: PathBuf,
    },
    /// A backup is not what it was.
    #[error("{name}: {why}")]
    Altered {
        /// The name of the backup.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such backup.
    #[error("{}: no backup named {name:?}", path.display())]
    Unknown {
        /// The directory.
        path: PathBuf,
        /// The name that was given.
        name: String,
    },
}

/// Makes an error of what the kernel said.
pub fn failed<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |error| Error::Io { what, path, error: error.into() }
}

impl Error {
    /// A missing right is the reason.
    #[must_use]
    pub fn is_of_rights(&self) -> bool {
        matches!(self, Error::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}
