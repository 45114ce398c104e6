//! The descriptors of one process, `/proc/PID/fd`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Dir;
use rustix::io::Errno;

use super::proc_dir::{ReadError, bracketed_number};
use crate::model::SocketInode;

/// `socket:[18446744073709551615]` has 29 bytes; a longer link is no socket's.
const LINK_BYTES: usize = 64;

/// A process's directory of descriptors, held open: it never shows another process that got the
/// pid, and goes on through execve(2).
#[derive(Debug)]
pub struct Descriptors {
    directory: OwnedFd,
}

impl Descriptors {
    /// Of a directory that was opened for reading.
    pub(super) fn new(directory: OwnedFd) -> Descriptors {
        Descriptors { directory }
    }

    /// How many there are, by the directory's size; `None` before Linux 6.2, where it is 0.
    pub fn count(&self) -> Option<u64> {
        let stat = rustix::fs::fstat(&self.directory).ok()?;
        u64::try_from(stat.st_size).ok().filter(|&count| count > 0)
    }

    /// The socket that a descriptor is; `None`: it is none, or not open.
    pub fn socket_at(&self, number: u32) -> Option<SocketInode> {
        let mut name = [0; 11];
        let mut rest = name.as_mut_slice();
        write!(rest, "{number}").ok()?;
        let digits = 11 - rest.len();
        let mut link = [MaybeUninit::uninit(); LINK_BYTES];
        let name = OsStr::from_bytes(name.get(..digits)?);
        let (link, _) = rustix::fs::readlinkat_raw(&self.directory, name, &mut link).ok()?;
        socket_of(link)
    }

    /// Shows every socket among them to `each`, and answers how many descriptors there are.
    pub fn walk(&self, mut each: impl FnMut(u32, SocketInode)) -> Result<u64, ReadError> {
        let mut count = 0;
        let mut target = [MaybeUninit::uninit(); LINK_BYTES];
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().ok().and_then(|name| name.parse().ok()) else {
                continue; // `.` and `..`
            };
            count += 1;
            match rustix::fs::readlinkat_raw(&self.directory, name, &mut target) {
                Ok((link, _)) => socket_of(link).into_iter().for_each(|inode| each(number, inode)),
                Err(Errno::NOENT) => {} // closed meanwhile
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(count)
    }

    /// Inodes of every socket among them.
    pub fn sockets(&self) -> Result<BTreeSet<SocketInode>, ReadError> {
        let mut inodes = BTreeSet::new();
        self.walk(|_, inode| inodes.extend([inode]))?;
        Ok(inodes)
    }

    /// Names of the protocols of sockets among them (`system.sockprotoname`, `net/socket.c`), of
    /// those in `wanted`: `TCP`, `UNIX-STREAM`, …
    ///
    /// It tells what a socket is that no table of its namespace lists.
    pub fn protocols(
        &self,
        wanted: &BTreeSet<SocketInode>,
    ) -> Result<BTreeMap<SocketInode, String>, ReadError> {
        // The magic link leads to the socket itself; /proc/self/fd reaches it from here.
        let here = Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string());
        let mut protocols = BTreeMap::new();
        self.walk(|number, inode| {
            if !wanted.contains(&inode) {
                return;
            }
            let path = here.join(number.to_string());
            let mut name = [0; 32];
            if let Ok(length) = rustix::fs::getxattr(&path, "system.sockprotoname", &mut name) {
                let name = name.get(..length).unwrap_or_default();
                let name = name.split(|&b| b == 0).next().unwrap_or_default();
                protocols.insert(inode, String::from_utf8_lossy(name).into_owned());
            }
        })?;
        Ok(protocols)
    }
}

fn socket_of(link: &[u8]) -> Option<SocketInode> {
    link.starts_with(b"socket:").then(|| bracketed_number(link)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::proc_dir::ProcDir;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_descriptor_shows_its_socket_while_it_is_open() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.as_raw_fd();
        let inode = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap().ino();
        let number = number.cast_unsigned();
        let own = ProcDir::open(Path::new("/proc"), std::process::id().cast_signed()).unwrap();
        let descriptors = own.descriptors().unwrap();
        assert_eq!(descriptors.socket_at(number), Some(inode));
        let mut seen = Vec::new();
        descriptors.walk(|number, inode| seen.push((number, inode))).unwrap();
        assert!(seen.contains(&(number, inode)), "{seen:?}");
        let directory = std::os::fd::AsRawFd::as_raw_fd(&descriptors.directory).cast_unsigned();
        assert_eq!(descriptors.socket_at(directory), None, "a directory");
        assert_eq!(descriptors.socket_at(4_000_000_000), None);
    }
}
