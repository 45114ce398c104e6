//! The descriptors of one process, `/proc/PID/fd`.

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
    pub(in crate::sample) fn new(directory: OwnedFd) -> Descriptors {
        Descriptors { directory }
    }

    /// How many there are, by the directory's size; `None` before Linux 6.2, where it is 0.
    pub fn count(&self) -> Option<u64> {
        let stat = rustix::fs::fstat(&self.directory).ok()?;
        u64::try_from(stat.st_size).ok().filter(|&count| count > 0)
    }

    /// What the descriptor of this number leads to.
    pub fn target_at(&self, number: u32) -> Target {
        let mut digits = [0; DIGITS];
        name_of(number, &mut digits)
            .map_or(Target::Nothing, |name| target_of(&self.directory, name))
    }

    /// The link of a descriptor, to be read again and again.
    pub fn link(&self, number: u32) -> Option<Link> {
        let mut digits = [0; DIGITS];
        let name = name_of(number, &mut digits)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, name, flags, Mode::empty()).ok().map(Link)
    }

    /// Shows every one of them to `each` by its number, with the inode of those that are sockets.
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

    /// Inodes of every socket among them.
    pub fn sockets(&self) -> Result<BTreeSet<SocketInode>, ReadError> {
        let mut inodes = BTreeSet::new();
        self.walk(|_, inode| inodes.extend(inode))?;
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

/// `/proc/PID/fd/N`, held open: the link itself, not what it leads to, which is as free as before.
///
/// To read it costs a quarter less than to look it up by its name. It tells each time what the
/// process has by that number then, and nothing once the process has ended, whoever gets its pid.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// What the descriptor leads to now.
    pub fn target(&self) -> Target {
        target_of(&self.0, OsStr::new(""))
    }
}

/// What a descriptor leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It is not open.
    Nothing,
    /// A socket.
    Socket(SocketInode),
    /// A file, a pipe, …
    Other,
}

/// The longest number of a descriptor.
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
    fn a_link_tells_what_is_there_now_and_holds_nothing() {
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
        assert_ne!(link.target(), target, "another socket, if by the same number");
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
