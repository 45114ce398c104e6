//! Finds the network namespaces in which HAProxy processes live or may listen, and the paths by
//! which each can be entered.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::model::time::YOUNG_SECONDS;
use crate::model::{NamespaceId, OtherNetworks, Process, ProcessId, UnixSeconds, Unreadable, What};
use crate::sample::discovery::processes::Found;
use crate::sample::discovery::root_view::root_view;
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

/// The directory in which HAProxy looks up the name of a namespace, within its own root
/// (`open_named_namespace()`, `src/namespace.c`).
const NAMED_FOR_HAPROXY: &str = "/var/run/netns";
/// How many descriptors are looked at for namespaces. HAProxy opens its namespaces while it reads
/// its configuration, before any listener, so their descriptors have low numbers.
const FIRST_DESCRIPTORS: i32 = 256;
/// A process without a listener may still be reading its configuration for this long, and open more
/// namespaces.
const LONGEST_START_SECONDS: f64 = 60.0;

/// A path that leads to a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespacePath {
    /// `/proc/PID/ns/net` of a process that lives in it.
    Inhabitant(i32),
    /// A name below `/run/netns` as the process of this pid sees it.
    Name(i32, String),
    /// A descriptor that the process of this pid has open.
    Descriptor(i32, i32),
}

impl NamespacePath {
    /// Opens the path, and returns the namespace to which it leads now with a file to enter it by.
    pub fn open(&self, procfs: &Path) -> Result<(NamespaceId, OwnedFd), ReadError> {
        match self {
            NamespacePath::Inhabitant(pid) => ProcDir::open(procfs, *pid)?.open_namespace("net"),
            NamespacePath::Name(pid, name) => named(procfs, *pid, name),
            NamespacePath::Descriptor(pid, number) => {
                ProcDir::open(procfs, *pid)?.network_behind(*number)
            }
        }
    }
}

/// The paths to each namespace that is needed, the best first.
pub type NamespacePaths = BTreeMap<NamespaceId, Vec<NamespacePath>>;

/// The namespaces of the processes of the last sample.
#[derive(Debug, Default)]
pub struct NetworkUses {
    known: BTreeMap<ProcessId, ProcessNetworks>,
}

/// The namespaces in which one process may listen besides its own.
#[derive(Debug, Clone, Default)]
struct ProcessNetworks {
    /// The namespaces that the names in its configuration lead to.
    named: BTreeMap<String, NamespaceId>,
    /// The namespaces that its descriptors lead to; `None` where they could not be read.
    held: Option<BTreeMap<NamespaceId, i32>>,
    held_is_final: bool,
}

impl NetworkUses {
    /// Gives every living process the namespaces in which it may listen besides its own, and
    /// returns the paths to all namespaces.
    pub fn read(
        &mut self,
        procfs: &Path,
        found: &mut [Found],
        listens: impl Fn(ProcessId) -> bool,
        now: UnixSeconds,
        unreadable: &mut Vec<Unreadable>,
    ) -> NamespacePaths {
        let mut paths = NamespacePaths::new();
        let mut known = BTreeMap::new();
        let mut others = Vec::new();
        for one in found.iter() {
            let process = &one.process;
            if process.is_zombie() {
                others.push(OtherNetworks::default());
                continue;
            }
            let mut of = self.known.remove(&process.id).unwrap_or_default();
            if let Some(id) = process.net_namespace {
                paths.entry(id).or_default().insert(0, NamespacePath::Inhabitant(process.id.pid));
            }
            let age = now - process.started;
            let started = if listens(process.id) { YOUNG_SECONDS } else { LONGEST_START_SECONDS };
            of.read_held(one, age > started, &mut paths);
            let named = of.read_names(procfs, one, found, &mut paths, unreadable);
            let held = of.held.as_ref();
            let held = held.map(|held| held.keys().copied().collect::<BTreeSet<_>>());
            others.push(OtherNetworks { named, held });
            known.insert(process.id, of);
        }
        self.known = known;
        for (one, others) in found.iter_mut().zip(others) {
            one.process.other_networks = others;
        }
        paths
    }
}

impl ProcessNetworks {
    /// Reads the namespaces that its descriptors lead to, other than its own, as long as it may
    /// open more of them.
    fn read_held(&mut self, found: &Found, has_started: bool, paths: &mut NamespacePaths) {
        let process = &found.process;
        if !self.held_is_final {
            let held = found.directory.held_networks(FIRST_DESCRIPTORS);
            self.held = held.ok().map(|mut held| {
                held.retain(|id, _| Some(*id) != process.net_namespace);
                held
            });
            self.held_is_final = self.held.is_some() && has_started;
        }
        for (&id, &descriptor) in self.held.iter().flatten() {
            let path = NamespacePath::Descriptor(process.id.pid, descriptor);
            paths.entry(id).or_default().push(path);
        }
    }

    /// Resolves the names of namespaces in its configuration. A name that is gone keeps its last
    /// meaning, because the process still listens there.
    fn read_names(
        &mut self,
        procfs: &Path,
        found: &Found,
        all: &[Found],
        paths: &mut NamespacePaths,
        unreadable: &mut Vec<Unreadable>,
    ) -> BTreeMap<String, Option<NamespaceId>> {
        let configuration = found.process.configuration.as_deref();
        let mut meanings = BTreeMap::new();
        for name in configuration.iter().flat_map(|c| c.ports.namespaces()) {
            let seen = root_view(procfs, found, all).ok_or(ReadError::Denied);
            match seen.and_then(|pid| Ok((pid, named(procfs, pid, name)?.0))) {
                Ok((pid, id)) => {
                    self.named.insert(name.to_owned(), id);
                    paths.entry(id).or_default().push(NamespacePath::Name(pid, name.to_owned()));
                }
                Err(_) if self.named.contains_key(name) => {}
                Err(error) => {
                    let entry = nameless(name, &error);
                    if !unreadable.contains(&entry) {
                        unreadable.push(entry);
                    }
                }
            }
            meanings.insert(name.to_owned(), self.named.get(name).copied());
        }
        meanings
    }
}

/// Whether a process may listen in a namespace. HAProxy also keeps the namespaces of its servers
/// open; only a configuration that was read in full, and with which the process was started, shows
/// that a namespace is one of those.
#[must_use]
pub fn may_listen_in(process: &Process, id: NamespaceId) -> bool {
    let others = &process.other_networks;
    let declared = others.named.values().flatten().any(|named| *named == id);
    let settled = |process: &Process| {
        let configuration = process.configuration.as_deref();
        configuration.is_some_and(|c| c.complete && !c.is_newer_than(process.started))
    };
    process.net_namespace == Some(id)
        || declared
        || (others.held.as_ref().is_some_and(|held| held.contains(&id)) && !settled(process))
}

/// Resolves the name of a namespace as a process sees it.
fn named(procfs: &Path, pid: i32, name: &str) -> Result<(NamespaceId, OwnedFd), ReadError> {
    let path = Path::new(NAMED_FOR_HAPROXY).join(name.trim_start_matches('/'));
    ProcDir::open(procfs, pid)?.named_network(&path)
}

/// The entry for a name of a namespace that cannot be resolved.
fn nameless(name: &str, error: &ReadError) -> Unreadable {
    let reason = match error {
        ReadError::Gone => {
            "it is in the configuration, and /run/netns has no such name: the next reload fails"
                .to_owned()
        }
        ReadError::Denied => format!("{error}; needs CAP_SYS_PTRACE"),
        ReadError::Other(_) => error.to_string(),
    };
    Unreadable { what: What::Namespace, subject: format!("network namespace {name}"), reason }
}
