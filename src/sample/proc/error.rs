//! The reasons why a file of a process cannot be read.

use std::io;

use rustix::io::Errno;

/// The reason why a file of a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The process has ended, which is normal.
    #[error("the process is gone")]
    Gone,
    /// The exporter lacks the right.
    #[error("permission denied")]
    Denied,
    /// Any other reason.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::SRCH) => ReadError::Gone,
            Some(Errno::ACCESS | Errno::PERM) => ReadError::Denied,
            _ => ReadError::Other(error.to_string()),
        }
    }
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<procfs::ProcError> for ReadError {
    fn from(error: procfs::ProcError) -> Self {
        match error {
            procfs::ProcError::PermissionDenied(_) => ReadError::Denied,
            procfs::ProcError::NotFound(_) => ReadError::Gone,
            procfs::ProcError::Io(error, _) => error.into(),
            other => ReadError::Other(other.to_string()),
        }
    }
}
