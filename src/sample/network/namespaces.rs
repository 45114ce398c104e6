//! A socket table for each network namespace, opened once and kept while it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sockets::{Netlink, SocketTable};
use super::uses::NamespacePath;
use crate::model::{NamespaceId, Unreadable, What};
use crate::sample::network::sysctls::{EphemeralPorts, EphemeralSysctls};
use crate::sample::proc::dir::ProcDir;

/// Where `ip netns add` keeps its names.
pub(in crate::sample) const NAMED_NAMESPACES: &str = "/run/netns";

/// One network namespace that is being watched.
#[derive(Debug)]
pub struct Network {
    /// Its label; empty for the host's.
    pub label: String,
    /// Its sockets.
    pub table: SocketTable,
    /// Why it is read through procfs instead of netlink.
    pub handicap: Option<Unreadable>,
    sysctls: Option<EphemeralSysctls>,
}

impl Network {
    /// Its ephemeral ports now; `None` where the namespace could not be entered.
    #[must_use]
    pub fn ephemeral(&self) -> Option<EphemeralPorts> {
        self.sysctls.as_ref()?.read().ok()
    }
}

/// The network namespaces being watched.
#[derive(Debug)]
pub struct Networks {
    procfs: PathBuf,
    own: Option<NamespaceId>,
    /// The host's, whose ports have no label: that of init of the procfs, as far as it tells.
    home: Option<NamespaceId>,
    open: BTreeMap<NamespaceId, Network>,
    /// Those that were not needed last time.
    idle: BTreeSet<NamespaceId>,
    /// Where a right is missing to enter, and there is no other way: no use in trying again.
    refused: BTreeMap<NamespaceId, Unreadable>,
}

impl Networks {
    /// Knows which namespace is whose, and opens none.
    #[must_use]
    pub fn new(procfs: &Path) -> Networks {
        let own = own_network(procfs);
        let init = ProcDir::open(procfs, 1).and_then(|init| init.namespace("net")).ok();
        Networks {
            procfs: procfs.to_owned(),
            own,
            home: init.or(own),
            open: BTreeMap::new(),
            idle: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The exporter's own.
    #[must_use]
    pub fn own(&self) -> Option<NamespaceId> {
        self.own
    }

    /// Makes the namespace `id` readable, by the first of its paths that opens.
    pub fn open(
        &mut self,
        id: NamespaceId,
        paths: &[NamespacePath],
    ) -> Result<&mut Network, EntryError> {
        if let Some(refusal) = self.refused.get(&id) {
            return Err(EntryError::Refused(refusal.clone()));
        }
        if !self.open.contains_key(&id) {
            let label = self.label_of(id, paths);
            match self.make_readable(id, paths, label) {
                Ok(network) => drop(self.open.insert(id, network)),
                Err(error) => {
                    if let EntryError::Refused(entry) = &error {
                        self.refused.insert(id, entry.clone());
                    }
                    return Err(error);
                }
            }
        }
        let directory = inhabited(&self.procfs, paths);
        let network = self.open.get_mut(&id).ok_or(EntryError::Gone)?;
        if let (SocketTable::Procfs(path), Some(directory)) = (&mut network.table, directory) {
            // The process it was opened through may be gone.
            *path = directory;
        }
        Ok(network)
    }

    /// A namespace made readable before.
    pub fn get_mut(&mut self, id: NamespaceId) -> Option<&mut Network> {
        self.open.get_mut(&id)
    }

    /// The tables of all.
    pub fn tables(&mut self) -> impl Iterator<Item = (NamespaceId, &mut SocketTable)> {
        self.open.iter_mut().map(|(&id, network)| (id, &mut network.table))
    }

    /// Closes all that were not needed last time either: an open socket keeps its namespace alive,
    /// and a sample that a reload has torn may show nobody there.
    pub fn retain(&mut self, needed: impl Fn(NamespaceId) -> bool) {
        let idle = self.open.keys().copied().filter(|&id| !needed(id)).collect();
        let before = std::mem::replace(&mut self.idle, idle);
        self.open.retain(|id, _| !(self.idle.contains(id) && before.contains(id)));
        self.refused.retain(|&id, _| needed(id));
    }

    fn make_readable(
        &self,
        id: NamespaceId,
        paths: &[NamespacePath],
        label: String,
    ) -> Result<Network, EntryError> {
        let entry = |what, reason: String| Unreadable { what, subject: subject_of(&label), reason };
        let own = Some(id) == self.own;
        let directory =
            if own { Some(self.procfs.join("self/net")) } else { inhabited(&self.procfs, paths) };
        let inside = if own {
            Ok(Inside::open_here(&self.procfs))
        } else {
            let file = open_one(id, paths, &self.procfs)?;
            enter(file, LinkNameSpaceType::Network, || Ok(Inside::open_here(&self.procfs)))
        };
        let (sysctls, what, why) = match inside {
            Ok(Inside { netlink: Ok(netlink), sysctls }) => {
                let table = SocketTable::Netlink(netlink);
                return Ok(Network { label, table, handicap: None, sysctls });
            }
            Ok(Inside { netlink: Err(error), sysctls }) => {
                (sysctls, What::Sockets, format!("sock_diag: {error}"))
            }
            Err(error) => {
                let why = format!("it cannot be entered: {error}; needs CAP_SYS_ADMIN");
                (None, What::Namespace, why)
            }
        };
        let Some(directory) = directory else {
            let why = format!("{why}; nobody seen lives there, so nothing is known of its sockets");
            return Err(EntryError::Refused(entry(what, why)));
        };
        let why = format!("{why}; /proc/net does not tell UDP listeners from other UDP sockets");
        let handicap = Some(entry(what, why));
        Ok(Network { label, table: SocketTable::Procfs(directory), handicap, sysctls })
    }

    /// The host's has none. Its name on the host, else as HAProxy's configuration calls it, unless
    /// another is called so already, else its number. Whoever had the name on the host before has
    /// lost it.
    fn label_of(&mut self, id: NamespaceId, paths: &[NamespacePath]) -> String {
        if Some(id) == self.home {
            return String::new();
        }
        let hosts = self.procfs.join("1/root").join(NAMED_NAMESPACES.trim_start_matches('/'));
        let named = name_in(&hosts, id).or_else(|| name_in(Path::new(NAMED_NAMESPACES), id));
        if let Some(name) = named {
            let before = self.open.iter_mut().find(|(_, network)| network.label == name);
            if let Some((before, network)) = before {
                network.label = before.0.to_string();
            }
            return name;
        }
        let taken = |label: &String| self.open.values().any(|network| network.label == *label);
        let by_configuration = paths.iter().find_map(|path| match path {
            NamespacePath::Name(_, name) => Some(name.clone()),
            NamespacePath::Inhabitant(_) | NamespacePath::Descriptor(..) => None,
        });
        by_configuration.filter(|label| !taken(label)).unwrap_or_else(|| id.0.to_string())
    }
}

/// Why a namespace could not be made readable.
#[derive(Debug)]
pub enum EntryError {
    /// What led there a moment ago does so no more.
    Gone,
    /// A right is missing, and there is no other way.
    Refused(Unreadable),
}

/// What is opened in a namespace once, and read from outside ever after.
struct Inside {
    netlink: io::Result<Netlink>,
    sysctls: Option<EphemeralSysctls>,
}

impl Inside {
    /// In that of the calling thread.
    fn open_here(procfs: &Path) -> Inside {
        Inside { netlink: Netlink::open(), sysctls: EphemeralSysctls::open(procfs).ok() }
    }
}

/// A file of the namespace, by the first path that still leads there.
fn open_one(
    id: NamespaceId,
    paths: &[NamespacePath],
    procfs: &Path,
) -> Result<OwnedFd, EntryError> {
    let opened = paths.iter().filter_map(|path| path.open(procfs).ok());
    opened.filter(|(found, _)| *found == id).map(|(_, file)| file).next().ok_or(EntryError::Gone)
}

/// The tables of a process that lives in it: readable by anyone.
fn inhabited(procfs: &Path, paths: &[NamespacePath]) -> Option<PathBuf> {
    paths.iter().find_map(|path| match path {
        NamespacePath::Inhabitant(pid) => Some(procfs.join(pid.to_string()).join("net")),
        NamespacePath::Name(..) | NamespacePath::Descriptor(..) => None,
    })
}

/// Does `work` inside a namespace, on a thread that ends with it (setns(2)).
pub(in crate::sample) fn enter<T: Send>(
    namespace: OwnedFd,
    kind: LinkNameSpaceType,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let entered = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(kind))?;
            work()
        });
        entered.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    })
}

/// How a message calls the namespace of this label.
pub(in crate::sample) fn subject_of(label: &str) -> String {
    match label {
        "" => "the host's network namespace".to_owned(),
        label => format!("network namespace {label}"),
    }
}

/// The first of its names below a directory like `/run/netns`.
fn name_in(directory: &Path, id: NamespaceId) -> Option<String> {
    let named = fs::read_dir(directory).into_iter().flatten().flatten();
    named
        .filter(|entry| fs::metadata(entry.path()).is_ok_and(|meta| meta.ino() == id.0))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .min()
}

/// The exporter's own, as the procfs has it, or as `/proc` where that does not show the exporter.
fn own_network(procfs: &Path) -> Option<NamespaceId> {
    let own = |procfs: &Path| {
        let pid = fs::read_link(procfs.join("self")).ok()?.to_str()?.parse().ok()?;
        ProcDir::open(procfs, pid).ok()?.namespace("net").ok()
    };
    own(procfs).or_else(|| own(Path::new("/proc")))
}
