//! Finds the programs that hold a socket, by a walk over the descriptors of every process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::model::{Program, SocketInode};
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

/// The holders of some sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// The programs by socket, in the order of their pids.
    pub programs: BTreeMap<SocketInode, BTreeSet<Program>>,
    /// The number of processes whose descriptors could not be read: each may be a missing holder.
    pub unseen: usize,
}

/// Finds the holders of the sockets in `wanted`.
#[must_use]
pub fn holders(procfs: &Path, wanted: &BTreeSet<SocketInode>) -> Holders {
    let mut holders = Holders::default();
    if wanted.is_empty() {
        return holders;
    }
    for entry in std::fs::read_dir(procfs).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(directory) = ProcDir::open(procfs, pid) else { continue };
        match directory.descriptors().and_then(|descriptors| descriptors.sockets()) {
            Ok(held) => {
                let mut held = held.intersection(wanted).peekable();
                if held.peek().is_none() {
                    continue;
                }
                let name = directory.comm().unwrap_or_default();
                for &inode in held {
                    let program = Program { pid, name: name.clone() };
                    holders.programs.entry(inode).or_default().insert(program);
                }
            }
            Err(ReadError::Gone) => {}
            Err(_) => holders.unseen += 1,
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let inode = std::fs::metadata(format!("/proc/self/fd/{descriptor}")).unwrap().ino();
        let found = holders(Path::new("/proc"), &BTreeSet::from([inode]));
        let pids: Vec<i32> = found.programs[&inode].iter().map(|program| program.pid).collect();
        assert_eq!(pids, [std::process::id().cast_signed()]);
        assert_eq!(holders(Path::new("/proc"), &BTreeSet::new()), Holders::default());
    }
}
