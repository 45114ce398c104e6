//! Opens the socket tables of each network namespace once, and keeps them while they are needed.

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
use crate::sample::discovery::root_view::own_pid;
use crate::sample::network::sysctls::{EphemeralPorts, Sysctls};
use crate::sample::proc::dir::ProcDir;

/// The directory in which `ip netns add` keeps its names.
pub(in crate::sample) const NAMED_NAMESPACES: &str = "/run/netns";

/// One network namespace that is watched.
#[derive(Debug)]
pub struct Network {
    /// Its label (`netns`); empty for the namespace of the host.
    pub label: String,
    /// Its socket tables.
    pub table: SocketTable,
    /// The reason why it is read through procfs instead of netlink.
    pub handicap: Option<Unreadable>,
    sysctls: Option<Sysctls>,
}

impl Network {
    /// Its ephemeral ports; `None` where the namespace could not be entered.
    #[must_use]
    pub fn ephemeral(&self) -> Option<EphemeralPorts> {
        self.sysctls.as_ref()?.ephemeral().ok()
    }

    /// Whether an IPv6 socket leaves IPv4 alone unless it asks for both; the kernel's default where the
    /// namespace could not be entered.
    #[must_use]
    pub fn v6only(&self) -> bool {
        self.sysctls.as_ref().is_some_and(Sysctls::v6only)
    }
}

/// The network namespaces that are watched.
#[derive(Debug)]
pub struct Networks {
    procfs: PathBuf,
    own: Option<NamespaceId>,
    /// The namespace of the host, which has no label: that of pid 1 of the procfs where it can be
    /// read, else the exporter's own.
    home: Option<NamespaceId>,
    open: BTreeMap<NamespaceId, Network>,
    /// The open namespaces that the last sample did not need.
    idle: BTreeSet<NamespaceId>,
    /// The namespaces that the exporter has no right to enter, and cannot read in any other way.
    /// They are not tried again.
    refused: BTreeMap<NamespaceId, Unreadable>,
}

impl Networks {
    /// Finds out which namespace is the exporter's own and which is the host's; opens none.
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

    /// The exporter's own namespace.
    #[must_use]
    pub fn own(&self) -> Option<NamespaceId> {
        self.own
    }

    /// Makes the namespace `id` readable, by the first of these paths that leads there.
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
            // The process through which it was opened may have ended.
            *path = directory;
        }
        Ok(network)
    }

    /// A namespace that was made readable before.
    pub fn get_mut(&mut self, id: NamespaceId) -> Option<&mut Network> {
        self.open.get_mut(&id)
    }

    /// The socket tables of every open namespace.
    pub fn tables(&mut self) -> impl Iterator<Item = (NamespaceId, &mut SocketTable)> {
        self.open.iter_mut().map(|(&id, network)| (id, &mut network.table))
    }

    /// Closes the namespaces that neither this sample nor the last one needed. An open socket keeps
    /// its namespace alive, but a torn sample may show no process in a namespace that is in use.
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
            Ok(open_here(&self.procfs))
        } else {
            let file = open_one(id, paths, &self.procfs)?;
            enter(file, LinkNameSpaceType::Network, || Ok(open_here(&self.procfs)))
        };
        let (sysctls, what, why) = match inside {
            Ok((Ok(netlink), sysctls)) => {
                let table = SocketTable::Netlink(netlink);
                return Ok(Network { label, table, handicap: None, sysctls });
            }
            Ok((Err(error), sysctls)) => (sysctls, What::Sockets, format!("sock_diag: {error}")),
            Err(error) => {
                let why = format!("it cannot be entered: {error}; needs CAP_SYS_ADMIN");
                (None, What::Namespace, why)
            }
        };
        let Some(directory) = directory else {
            let why = format!("{why}; no process was seen in it, so its sockets are unknown");
            return Err(EntryError::Refused(entry(what, why)));
        };
        let why =
            format!("{why}; /proc/net does not distinguish UDP listeners from other UDP sockets");
        let handicap = Some(entry(what, why));
        Ok(Network { label, table: SocketTable::Procfs(directory), handicap, sysctls })
    }

    /// The label of a namespace: empty for the host's, else its name on the host, else the name in
    /// HAProxy's configuration if no other namespace has it, else its number. A namespace that had
    /// the name on the host before is called by its number from now on.
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

/// The reason why a namespace could not be made readable.
#[derive(Debug)]
pub enum EntryError {
    /// No path leads there any more.
    Gone,
    /// A right is missing, and the namespace cannot be read in any other way.
    Refused(Unreadable),
}

/// Opens, in the namespace of the calling thread, the files that are then read from outside.
fn open_here(procfs: &Path) -> (io::Result<Netlink>, Option<Sysctls>) {
    (Netlink::open(), Sysctls::open(procfs).ok())
}

/// Opens a file of the namespace by the first path that still leads there.
fn open_one(
    id: NamespaceId,
    paths: &[NamespacePath],
    procfs: &Path,
) -> Result<OwnedFd, EntryError> {
    let opened = paths.iter().filter_map(|path| path.open(procfs).ok());
    opened.filter(|(found, _)| *found == id).map(|(_, file)| file).next().ok_or(EntryError::Gone)
}

/// The `/proc/PID/net` of a process that lives in the namespace; any user may read it.
fn inhabited(procfs: &Path, paths: &[NamespacePath]) -> Option<PathBuf> {
    paths.iter().find_map(|path| match path {
        NamespacePath::Inhabitant(pid) => Some(procfs.join(pid.to_string()).join("net")),
        NamespacePath::Name(..) | NamespacePath::Descriptor(..) => None,
    })
}

/// Runs `work` inside a namespace, on a thread of its own (setns(2)).
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

/// The name that messages use for the namespace of this label.
pub(in crate::sample) fn subject_of(label: &str) -> String {
    match label {
        "" => "the host's network namespace".to_owned(),
        label => format!("network namespace {label}"),
    }
}

/// The alphabetically first name of a namespace in a directory like `/run/netns`.
fn name_in(directory: &Path, id: NamespaceId) -> Option<String> {
    let named = fs::read_dir(directory).into_iter().flatten().flatten();
    named
        .filter(|entry| fs::metadata(entry.path()).is_ok_and(|meta| meta.ino() == id.0))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .min()
}

/// The exporter's own namespace by this procfs, or by `/proc` where this one does not show the
/// exporter.
fn own_network(procfs: &Path) -> Option<NamespaceId> {
    let own = |procfs: &Path| ProcDir::open(procfs, own_pid(procfs)?).ok()?.namespace("net").ok();
    own(procfs).or_else(|| own(Path::new("/proc")))
}
