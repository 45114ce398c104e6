//! Why a configuration could not be read whole.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a configuration could not be read, or not as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no such file or directory; HAProxy would not start. A link that leads nowhere is one, too.
    #[error("{}: no such file", path.display())]
    Missing {
        /// Its name.
        path: PathBuf,
    },
    /// The exporter may not read it, but HAProxy may: grant the right, such as `CAP_DAC_READ_SEARCH`.
    #[error("{}: no permission (CAP_DAC_READ_SEARCH would do)", path.display())]
    Forbidden {
        /// Its name.
        path: PathBuf,
    },
    /// It could not be read for another reason.
    #[error("{}: {}", path.display(), std::io::Error::from(*errno))]
    Unreadable {
        /// Its name.
        path: PathBuf,
        /// What the kernel says.
        errno: Errno,
    },
    /// It is a FIFO, socket or device, such as `/dev/stdin`: HAProxy reads it, but once only,
    /// so that what it read there cannot be known.
    #[error("{}: not a regular file, and what HAProxy read from it cannot be read again", path.display())]
    NotAFile {
        /// Its name.
        path: PathBuf,
    },
    /// The user who started HAProxy could not read it, or another user could have put it there, so
    /// nothing of it may be shown.
    #[error("{}: not shown, because the user who started this HAProxy may not read it", path.display())]
    Withheld {
        /// Its name.
        path: PathBuf,
    },
    /// It is larger than is read.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// Its name.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The configurations of its user are larger together, or take longer to read, than the user is allowed.
    #[error("{}: the configurations of its user are too large, or change too often, to be read", path.display())]
    OverAllowance {
        /// Its first name.
        path: PathBuf,
    },
    /// There are more files than are read.
    #[error("{}: more than {limit} files", path.display())]
    TooMany {
        /// The directory, or the file that was one too many.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

impl Problem {
    /// It shows that HAProxy would not start. Otherwise it only hides what HAProxy would read.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Problem::Missing { .. })
    }
}

/// What an error of the kernel about `path` means for the reading.
#[must_use]
pub fn problem(path: &Path, errno: Errno) -> Problem {
    let path = path.to_owned();
    match errno {
        Errno::NOENT | Errno::NOTDIR => Problem::Missing { path },
        Errno::ACCESS | Errno::PERM => Problem::Forbidden { path },
        // A file of the kernel, or one that a program answers for: no configuration that can be read again.
        Errno::XDEV => Problem::NotAFile { path },
        errno => Problem::Unreadable { path, errno },
    }
}
