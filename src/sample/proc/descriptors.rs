//! Reads the descriptors of one process (`/proc/PID/fd`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::error::ReadError;
use crate::model::SocketInode;

/// The longest link that is read: `socket:[18446744073709551615]` has 29 bytes, and a longer one is
/// not a socket's.
const LINK_BYTES: usize = 64;

/// The directory of a process's descriptors, held open. It never shows a later process with the
/// same pid, and stays valid over execve(2).
#[derive(Debug)]
pub struct Descriptors {
    directory: OwnedFd,
}

impl Descriptors {
    /// Takes a directory that was opened for reading.
    pub(in crate::sample) fn new(directory: OwnedFd) -> Descriptors {
        Descriptors { directory }
    }

    /// The number of open descriptors, which is the size of the directory; `None` before Linux 6.2,
    /// where the size is 0.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        let stat = rustix::fs::fstat(&self.directory).ok()?;
        u64::try_from(stat.st_size).ok().filter(|&count| count > 0)
    }

    /// The target of the descriptor of this number.
    #[must_use]
    pub fn target_at(&self, number: u32) -> Target {
        let mut digits = [0; DIGITS];
        name_of(number, &mut digits)
            .map_or(Target::Nothing, |name| target_of(&self.directory, name))
    }

    /// Opens the link of a descriptor, so that it can be read again and again.
    pub fn link(&self, number: u32) -> Option<Link> {
        let mut digits = [0; DIGITS];
        let name = name_of(number, &mut digits)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, name, flags, Mode::empty()).ok().map(Link)
    }

    /// Shows every descriptor to `each`, with its inode if it is a socket.
    pub fn walk(&self, mut each: impl FnMut(u32, Option<SocketInode>)) -> Result<(), ReadError> {
        let mut target = [MaybeUninit::uninit(); LINK_BYTES];
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().ok().and_then(|name| name.parse().ok()) else {
                continue; // `.` and `..`
            };
            match rustix::fs::readlinkat_raw(&self.directory, name, &mut target) {
                Ok((link, _)) => each(number, socket_of(link)),
                Err(Errno::NOENT) => {} // closed meanwhile
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// The inodes of all sockets among them.
    pub fn sockets(&self) -> Result<BTreeSet<SocketInode>, ReadError> {
        let mut inodes = BTreeSet::new();
        self.walk(|_, inode| inodes.extend(inode))?;
        Ok(inodes)
    }

    /// The names of the protocols of those sockets among them that are in `wanted`, such as `TCP`
    /// or `UNIX-STREAM` (`system.sockprotoname`, `net/socket.c`).
    ///
    /// This shows the kind of a socket that no table of its namespace lists.
    pub fn protocols(
        &self,
        wanted: &BTreeSet<SocketInode>,
    ) -> Result<BTreeMap<SocketInode, String>, ReadError> {
        // The magic link leads to the socket itself; /proc/self/fd reaches it from here.
        let here = Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string());
        let mut protocols = BTreeMap::new();
        self.walk(|number, inode| {
            let Some(inode) = inode.filter(|inode| wanted.contains(inode)) else { return };
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

/// The link `/proc/PID/fd/N`, held open. The link does not hold its target open.
///
/// Reading it costs a quarter less than looking it up by its name. It shows each time which file
/// the process has under this number then, and none once the process has ended, even if another one
/// gets its pid.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// The target of the descriptor now.
    #[must_use]
    pub fn target(&self) -> Target {
        target_of(&self.0, OsStr::new(""))
    }
}

/// The target of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The descriptor is not open.
    Nothing,
    /// A socket.
    Socket(SocketInode),
    /// Anything else, such as a file or a pipe.
    Other,
}

/// The digits of the longest number of a descriptor.
const DIGITS: usize = 10;

fn name_of(number: u32, digits: &mut [u8; DIGITS]) -> Option<&OsStr> {
    let mut rest = digits.as_mut_slice();
    write!(rest, "{number}").ok()?;
    let length = DIGITS - rest.len();
    Some(OsStr::from_bytes(digits.get(..length)?))
}

fn target_of(directory: &OwnedFd, name: &OsStr) -> Target {
    let mut target = [MaybeUninit::uninit(); LINK_BYTES];
    match rustix::fs::readlinkat_raw(directory, name, &mut target) {
        Ok((link, _)) => socket_of(link).map_or(Target::Other, Target::Socket),
        Err(_) => Target::Nothing,
    }
}

fn socket_of(link: &[u8]) -> Option<SocketInode> {
    link.starts_with(b"socket:").then(|| bracketed_number(link)).flatten()
}

/// The number in `socket:[123]` or `net:[4026531840]`.
pub(in crate::sample) fn bracketed_number(link: &[u8]) -> Option<u64> {
    let open = link.iter().position(|&b| b == b'[')?;
    let digits = link.get(open + 1..)?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::proc::dir::ProcDir;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_descriptor_shows_its_socket_while_it_is_open() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.as_raw_fd();
        let inode = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap().ino();
        let number = number.cast_unsigned();
        let own = ProcDir::open(Path::new("/proc"), std::process::id().cast_signed()).unwrap();
        let descriptors = own.descriptors().unwrap();
        assert_eq!(descriptors.target_at(number), Target::Socket(inode));
        let mut seen = Vec::new();
        descriptors.walk(|number, inode| seen.push((number, inode))).unwrap();
        assert!(seen.contains(&(number, Some(inode))), "{seen:?}");
        let directory = std::os::fd::AsRawFd::as_raw_fd(&descriptors.directory).cast_unsigned();
        assert_eq!(descriptors.target_at(directory), Target::Other, "a directory");
        assert!(seen.contains(&(directory, None)), "{seen:?}");
        assert_eq!(descriptors.target_at(4_000_000_000), Target::Nothing);
    }

    #[test]
    fn a_link_shows_its_present_target_and_holds_nothing_open() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let own = ProcDir::open(Path::new("/proc"), std::process::id().cast_signed()).unwrap();
        let descriptors = own.descriptors().unwrap();
        let number = listener.as_raw_fd().cast_unsigned();
        let link = descriptors.link(number).unwrap();
        let target = link.target();
        assert_eq!(target, descriptors.target_at(number));
        drop(listener);
        assert_ne!(link.target(), target);
        let again = std::net::TcpListener::bind(address).expect("the port has been given back");
        assert_ne!(link.target(), target, "another socket, even under the same number");
        drop(again);
    }

    #[test]
    fn a_link_of_a_process_that_has_ended_leads_nowhere() {
        let (_kept, given) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut child =
            std::process::Command::new("cat").stdin(OwnedFd::from(given)).spawn().unwrap();
        let of_child = ProcDir::open(Path::new("/proc"), child.id().cast_signed()).unwrap();
        let link = of_child.descriptors().unwrap().link(0).unwrap();
        assert!(matches!(link.target(), Target::Socket(_)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(link.target(), Target::Nothing);
    }
}
