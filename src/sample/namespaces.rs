//! A socket table for each network namespace, opened once and kept while it is needed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::kernel::{self, EphemeralPorts};
use super::sockets::{Netlink, SocketTable};
use crate::model::NamespaceId;

/// Where `ip netns add` keeps its names.
pub(super) const NAMED_NAMESPACES: &str = "/run/netns";

/// One network namespace that is being watched.
#[derive(Debug)]
pub struct Network {
    /// Its label; empty for the exporter's own.
    pub label: String,
    /// Its sockets.
    pub table: SocketTable,
    /// Its ephemeral ports; `None` where the namespace could not be entered.
    pub ephemeral: Option<EphemeralPorts>,
    /// Why it is read through procfs instead of netlink.
    pub handicap: Option<String>,
}

/// The network namespaces being watched.
#[derive(Debug, Default)]
pub struct Networks {
    open: BTreeMap<NamespaceId, Network>,
}

impl Networks {
    /// Makes the exporter's own namespace readable and brings its sysctls up to date.
    pub fn refresh_own(&mut self, id: NamespaceId, procfs: &Path) -> &mut Network {
        let network = self.open.entry(id).or_insert_with(|| {
            let (table, handicap) = table_or_fallback(Netlink::open(), procfs.join("self/net"));
            Network { label: String::new(), table, ephemeral: None, handicap }
        });
        network.ephemeral = kernel::ephemeral_ports(Path::new("/proc")).ok();
        network
    }

    /// Makes the namespace `id` readable through `pid`, a process that lives in it.
    pub fn refresh_foreign(&mut self, id: NamespaceId, procfs: &Path, pid: i32) -> &mut Network {
        let directory = procfs.join(pid.to_string());
        let network = self.open.entry(id).or_insert_with(|| {
            let opened = enter(&directory.join("ns/net"), Netlink::open);
            let (table, handicap) = table_or_fallback(opened, directory.join("net"));
            Network { label: label_of(id), table, ephemeral: None, handicap }
        });
        match &mut network.table {
            SocketTable::Netlink(_) => {
                let ports = || kernel::ephemeral_ports(Path::new("/proc"));
                network.ephemeral = enter(&directory.join("ns/net"), ports).ok();
            }
            // The process it was opened through may be gone.
            SocketTable::Procfs(path) => *path = directory.join("net"),
        }
        network
    }

    /// A namespace made readable before.
    pub fn get_mut(&mut self, id: NamespaceId) -> Option<&mut Network> {
        self.open.get_mut(&id)
    }

    /// The tables of all.
    pub fn tables(&mut self) -> impl Iterator<Item = (NamespaceId, &mut SocketTable)> {
        self.open.iter_mut().map(|(&id, network)| (id, &mut network.table))
    }

    /// Closes all others: an open socket keeps its namespace alive.
    pub fn retain(&mut self, needed: impl Fn(NamespaceId) -> bool) {
        self.open.retain(|&id, _| needed(id));
    }
}

fn table_or_fallback(
    opened: io::Result<Netlink>,
    directory: PathBuf,
) -> (SocketTable, Option<String>) {
    match opened {
        Ok(netlink) => (SocketTable::Netlink(netlink), None),
        Err(error) => (SocketTable::Procfs(directory), Some(error.to_string())),
    }
}

/// Does `work` inside a network namespace, on a thread that ends with it (setns(2)).
pub(super) fn enter<T: Send>(
    namespace: &Path,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = rustix::fs::open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    thread::scope(|scope| {
        let entered = scope.spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            work()
        });
        entered.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    })
}

fn label_of(id: NamespaceId) -> String {
    let named = fs::read_dir(NAMED_NAMESPACES).into_iter().flatten().flatten();
    named
        .filter(|entry| fs::metadata(entry.path()).is_ok_and(|meta| meta.ino() == id.0))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .min()
        .unwrap_or_else(|| id.0.to_string())
}
