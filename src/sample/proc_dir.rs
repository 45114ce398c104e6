//! One process's directory in procfs, held open: it never shows another process that got the pid.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use procfs::FromRead;
use procfs::process::{Limits, Stat, Status};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::descriptors::Descriptors;
use crate::model::{NamespaceId, ProcessId};

/// Most that is read of one file: what others write there has no bound of ours.
const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// Why something of a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The process is gone: normal.
    #[error("the process is gone")]
    Gone,
    /// A right is missing.
    #[error("permission denied")]
    Denied,
    /// Anything else.
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

/// `/proc/PID`.
#[derive(Debug)]
pub struct ProcDir {
    directory: OwnedFd,
}

impl ProcDir {
    /// Opens the directory of a process that was seen before; another may have its pid by now.
    pub fn of(procfs: &Path, id: ProcessId) -> Result<ProcDir, ReadError> {
        let directory = ProcDir::open(procfs, id.pid)?;
        let same = directory.stat()?.starttime == id.start_ticks;
        if same { Ok(directory) } else { Err(ReadError::Gone) }
    }

    /// Opens the directory of `pid` below `procfs`.
    pub fn open(procfs: &Path, pid: i32) -> Result<ProcDir, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(procfs.join(pid.to_string()), flags, Mode::empty())?;
        Ok(ProcDir { directory })
    }

    /// `stat`.
    pub fn stat(&self) -> Result<Stat, ReadError> {
        Ok(Stat::from_read(self.bytes("stat")?.as_slice())?)
    }

    /// `status`.
    pub fn status(&self) -> Result<Status, ReadError> {
        Ok(Status::from_read(self.bytes("status")?.as_slice())?)
    }

    /// The soft limit on open files in `limits`.
    pub fn max_fds(&self) -> Result<Option<u64>, ReadError> {
        let limits = Limits::from_read(self.bytes("limits")?.as_slice())?;
        Ok(match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit),
            procfs::process::LimitValue::Unlimited => None,
        })
    }

    /// `comm`, without its line end.
    pub fn comm(&self) -> Result<String, ReadError> {
        Ok(self.text("comm")?.trim_end().to_owned())
    }

    /// A whole small file as text.
    pub fn text(&self, name: &str) -> Result<String, ReadError> {
        Ok(String::from_utf8_lossy(&self.bytes(name)?).into_owned())
    }

    /// The strings of `cmdline` or `environ`, each of which a NUL ends.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, ReadError> {
        let bytes = self.bytes(name)?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(bytes.split(|&b| b == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    /// Where a link like `exe`, `cwd` or `root` leads.
    pub fn link(&self, name: &str) -> Result<PathBuf, ReadError> {
        let target = rustix::fs::readlinkat(&self.directory, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The number of a namespace in `ns`.
    pub fn namespace(&self, name: &str) -> Result<NamespaceId, ReadError> {
        let target = rustix::fs::readlinkat(&self.directory, format!("ns/{name}"), Vec::new())?;
        bracketed_number(target.as_bytes())
            .map(NamespaceId)
            .ok_or_else(|| ReadError::Other(format!("unexpected namespace link {target:?}")))
    }

    /// `fd`; needs the right to trace the process, and to read its directories.
    pub fn descriptors(&self) -> Result<Descriptors, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, "fd", flags, Mode::empty())?;
        Ok(Descriptors::new(directory))
    }

    /// How many descriptors it has, by the size of `fd` (Linux 6.2); 0 where that says nothing. It
    /// can be had where the directory may not be read.
    pub fn fd_count(&self) -> Result<u64, ReadError> {
        let stat = rustix::fs::statat(&self.directory, "fd", AtFlags::empty())?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// A regular file below the root this process sees, links resolved within that root.
    ///
    /// Never blocks: a FIFO or device is refused. At most `limit` bytes are read.
    pub fn file_in_root(&self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.directory, "root", flags, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let relative = path.strip_prefix("/").unwrap_or(path);
        let file = rustix::fs::openat2(
            root.as_fd(),
            relative,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(ReadError::Other("not a regular file".to_owned()));
        }
        read_up_to(file, limit)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        read_up_to(File::from(file), FILE_LIMIT_BYTES)
    }
}

fn read_up_to(file: File, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The number in `socket:[123]` or `net:[4026531840]`.
pub(super) fn bracketed_number(link: &[u8]) -> Option<u64> {
    let open = link.iter().position(|&b| b == b'[')?;
    let digits = link.get(open + 1..)?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
