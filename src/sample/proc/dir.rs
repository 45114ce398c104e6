//! Reads the files of one process through its directory in procfs, which is held open.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use procfs::FromRead;
use procfs::process::{Limits, Stat};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::descriptors::{Descriptors, bracketed_number};
use super::error::ReadError;
use super::status::{self, Status};
use crate::model::{NamespaceId, ProcessId};
use crate::sample::paths::route::{self, Dead};

/// The most bytes that are read of one file: a process can make its arguments and environment
/// large.
const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// The number of bytes that the first read asks for, which is all of most files.
const FIRST_BYTES: usize = 4096;

/// After this many unused numbers in a row no more descriptors are expected: the kernel gives a
/// process the lowest number that is free.
const WIDEST_GAP: usize = 32;
/// The type of the file system of namespaces (`linux/magic.h`).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

/// A directory `/proc/PID`. It never shows a later process with the same pid.
#[derive(Debug)]
pub struct ProcDir {
    directory: OwnedFd,
}

impl ProcDir {
    /// Opens the directory of a process that was seen before. It is gone if another one has its
    /// pid.
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

    /// Reads `stat`.
    pub fn stat(&self) -> Result<Stat, ReadError> {
        Ok(Stat::from_read(self.bytes("stat")?.as_slice())?)
    }

    /// Reads `status`.
    pub fn status(&self) -> Result<Status, ReadError> {
        let status = Status::parse(&self.bytes("status")?);
        status.ok_or_else(|| ReadError::Other("unexpected status".to_owned()))
    }

    /// The soft limit on open files in `limits`.
    pub fn max_fds(&self) -> Result<Option<u64>, ReadError> {
        let limits = Limits::from_read(self.bytes("limits")?.as_slice())?;
        Ok(match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit),
            procfs::process::LimitValue::Unlimited => None,
        })
    }

    /// Reads `comm`, without its line end.
    pub fn comm(&self) -> Result<String, ReadError> {
        Ok(self.text("comm")?.trim_end().to_owned())
    }

    /// Reads a whole small file as text.
    pub fn text(&self, name: &str) -> Result<String, ReadError> {
        Ok(String::from_utf8_lossy(&self.bytes(name)?).into_owned())
    }

    /// Reads the NUL-terminated strings of `cmdline` or `environ`.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, ReadError> {
        let bytes = self.bytes(name)?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(bytes.split(|&b| b == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    /// The target of a link like `exe`, `cwd` or `root`.
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

    /// The groups of the process: its own and the supplementary ones.
    pub fn groups(&self) -> Result<Vec<u32>, ReadError> {
        Ok(status::groups(&self.bytes("status")?))
    }

    /// Opens `fd`, which needs the right to trace the process and to read its directories.
    pub fn descriptors(&self) -> Result<Descriptors, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, "fd", flags, Mode::empty())?;
        Ok(Descriptors::new(directory))
    }

    /// The number of open descriptors, which is the size of `fd` since Linux 6.2; 0 before. It can
    /// be read where the directory itself cannot.
    pub fn fd_count(&self) -> Result<u64, ReadError> {
        let stat = rustix::fs::statat(&self.directory, "fd", AtFlags::empty())?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Opens the root directory that the process sees.
    pub fn root(&self) -> Result<OwnedFd, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.directory, "root", flags, Mode::empty())?)
    }

    /// Opens a namespace in `ns`, with a file to enter it by.
    pub fn open_namespace(&self, name: &str) -> Result<(NamespaceId, OwnedFd), ReadError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("ns/{name}");
        let file = rustix::fs::openat(&self.directory, path, flags, Mode::empty())?;
        namespace_of(&file)?.map(|id| (id, file)).ok_or(ReadError::Gone)
    }

    /// Opens the network namespace that has this name below the root that the process sees.
    ///
    /// [`ReadError::Gone`]: there is no such name, or no namespace is mounted on it.
    pub fn named_network(&self, path: &Path) -> Result<(NamespaceId, OwnedFd), ReadError> {
        let root = self.root()?;
        let file = match route::follow(&root, path) {
            Ok(route) => route.open(OFlags::RDONLY)?,
            // The path leads over a link of procfs, which cannot be followed within a root.
            Err(Dead { errno: Errno::XDEV, .. }) => linked_network(&root, path)?,
            Err(dead) => return Err(dead.errno.into()),
        };
        namespace_of(&file)?.map(|id| (id, file)).ok_or(ReadError::Gone)
    }

    /// The network namespaces to which its first `count` descriptors lead, each with a descriptor.
    ///
    /// Numbers are tried one after the other up to a gap, because a listing of all may be long.
    pub fn held_networks(&self, count: i32) -> Result<BTreeMap<NamespaceId, i32>, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, "fd", flags, Mode::empty())?;
        let mut held = BTreeMap::new();
        let mut target = [MaybeUninit::uninit(); 4096];
        let mut gap = 0;
        for number in 0..count {
            let name = number.to_string();
            let link = match rustix::fs::readlinkat_raw(&directory, &name, &mut target) {
                Ok((link, _)) => link,
                Err(Errno::NOENT) if gap < WIDEST_GAP => {
                    gap += 1;
                    continue;
                }
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno.into()),
            };
            gap = 0;
            if link.starts_with(b"net:[") {
                held.extend(bracketed_number(link).map(|id| (NamespaceId(id), number)));
            } else if may_be_named_network(link) {
                let file = self.network_behind(number);
                held.extend(file.ok().map(|(id, _)| (id, number)));
            }
        }
        Ok(held)
    }

    /// Opens the network namespace to which one of its descriptors leads.
    pub fn network_behind(&self, descriptor: i32) -> Result<(NamespaceId, OwnedFd), ReadError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let name = format!("fd/{descriptor}");
        // A device or FIFO must not be opened for reading, so its type is found out first.
        let what = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())?;
        let id = namespace_of(&what)?.ok_or(ReadError::Gone)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())?;
        (namespace_of(&file)? == Some(id)).then_some((id, file)).ok_or(ReadError::Gone)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        let mut bytes = Vec::with_capacity(FIRST_BYTES);
        let read = rustix::io::read(&file, spare_capacity(&mut bytes))?;
        // The kernel gives all it has at once, so that less than was asked for is the end.
        if read == FIRST_BYTES {
            File::from(file).take(FILE_LIMIT_BYTES).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

pub(in crate::sample) fn read_up_to(file: File, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens the target of a link like `/run/netns/X -> /proc/PID/ns/net`, which administrators make
/// for containers whose runtime gives their networks no names.
fn linked_network(root: &OwnedFd, path: &Path) -> Result<OwnedFd, ReadError> {
    let parent = route::follow(root, path.parent().ok_or(ReadError::Gone)?)
        .map_err(|dead| ReadError::from(dead.errno))?;
    let name = path.file_name().ok_or(ReadError::Gone)?;
    let link = rustix::fs::readlinkat(&parent.parent, name, Vec::new())?;
    let target = PathBuf::from(OsString::from_vec(link.into_bytes()));
    let directory = route::follow_into_proc(root, target.parent().ok_or(ReadError::Gone)?)
        .map_err(|dead| ReadError::from(dead.errno))?;
    let directory = directory.parent;
    if rustix::fs::fstatfs(&directory)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(ReadError::Gone);
    }
    let name = target.file_name().ok_or(ReadError::Gone)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&directory, name, flags, Mode::empty())?)
}

/// Whether a link shows a name below /run/netns, or the rest of one that `ip netns del` has
/// unmounted.
fn may_be_named_network(link: &[u8]) -> bool {
    link == b"/" || link.windows(7).any(|part| part == b"/netns/")
}

/// The number of the namespace that a file refers to; `None` if the file is not a namespace.
fn namespace_of(file: impl AsFd) -> Result<Option<NamespaceId>, ReadError> {
    let is_one = rustix::fs::fstatfs(&file)?.f_type == NSFS_MAGIC;
    let number = rustix::fs::fstat(&file)?.st_ino;
    Ok(is_one.then_some(NamespaceId(number)))
}

/// Whether the kernel is taking the process down, or has done so (`PF_EXITING` in `include/linux/sched.h`).
#[must_use]
pub fn is_ending(stat: &Stat) -> bool {
    const PF_EXITING: u32 = 0x4;
    stat.flags & PF_EXITING != 0
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Nothing can hold a process in the middle of its end, but one that is not reaped keeps the flag.
    #[test]
    fn a_process_that_ends_is_told_from_one_that_lives() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let stat = || ProcDir::open(Path::new("/proc"), pid).unwrap().stat().unwrap();
        assert!(!is_ending(&stat()));
        drop(child.stdin.take());
        while stat().state != 'Z' {
            std::thread::yield_now();
        }
        assert!(is_ending(&stat()));
        child.wait().unwrap();
    }
}
