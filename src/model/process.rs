//! A process as a sample saw it: what procfs shows of it, its pidfile, and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configuration::Configuration;
use super::network::NamespaceId;
use super::socket::SocketInode;
use super::time::UnixSeconds;

/// What a process is known by for its life. Pids recycle; the pair does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Ticks from boot to the start (`/proc/PID/stat`, field 22). First, so that ids sort by age.
    pub start_ticks: u64,
    /// Process id in the pid namespace of the procfs that was read.
    pub pid: i32,
}

/// One process that is, or was until it died unreaped, an `HAProxy`.
#[derive(Debug, Clone)]
pub struct Process {
    /// Identity.
    pub id: ProcessId,
    /// When it was started.
    pub started: UnixSeconds,
    /// Parent's pid; 0 when the parent is outside this pid namespace.
    pub parent: i32,
    /// Session id; a daemon that has detached leads its own session.
    pub session: i32,
    /// Name in the kernel, at most 15 bytes (`/proc/PID/stat`, field 2).
    pub comm: String,
    /// One letter (`/proc/PID/stat`, field 3): R, S, D, T, Z …
    pub run_state: char,
    /// Arguments, the program's own name first. `None`: unreadable, or a zombie.
    pub arguments: Option<Vec<String>>,
    /// The file it executes (`/proc/PID/exe`; needs `CAP_SYS_PTRACE` for others' processes).
    pub executable: Option<Executable>,
    /// `/proc/PID/cwd`.
    pub working_directory: Option<PathBuf>,
    /// `/proc/PID/root`; not `/` when chrooted.
    pub root: Option<PathBuf>,
    /// `/proc/PID/environ`: what it was executed with.
    pub environment: Option<Environment>,
    /// Path of its cgroup: the unified hierarchy's, or that of `name=systemd`, or the memory controller's.
    pub cgroup: Option<String>,
    /// User ids, as the reader's user namespace numbers them.
    pub users: Option<UserIds>,
    /// systemd runs it as the main process of a unit of root's.
    pub is_unit_main: bool,
    /// Pid namespace.
    pub pid_namespace: Option<NamespaceId>,
    /// Network namespace.
    pub net_namespace: Option<NamespaceId>,
    /// Other network namespaces it listens in.
    pub other_networks: OtherNetworks,
    /// Mount namespace.
    pub mount_namespace: Option<NamespaceId>,
    /// Its pid in each pid namespace, from the reader's to its own (`NSpid`).
    pub namespace_pids: Vec<i32>,
    /// Signals pending and blocked.
    pub signals: Option<Signals>,
    /// Anonymous resident memory (`RssAnon`), bytes.
    pub anonymous_memory_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Soft limit on descriptors (`/proc/PID/limits`).
    pub max_fds: Option<u64>,
    /// Of the sockets that may be listeners, or were when they were last listed, those it holds.
    /// `None`: its descriptors could not be read.
    pub sockets: Option<Arc<BTreeSet<SocketInode>>>,
    /// The pidfile its command line or its configuration names.
    pub pidfile: Option<Pidfile>,
    /// Its configuration as it is on disk now. `None`: it names none, or none could be read.
    pub configuration: Option<Arc<Configuration>>,
}

impl Process {
    /// Dead and not yet reaped by its parent.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.run_state, 'Z' | 'X')
    }

    /// It has called chroot(2) since it was executed: its program lies outside its root.
    ///
    /// One that was started within a chroot sees its program, and its files.
    #[must_use]
    pub fn in_own_jail(&self) -> bool {
        let Some(root) = self.root.as_deref().filter(|root| *root != Path::new("/")) else {
            return false;
        };
        self.executable.as_ref().is_none_or(|executable| !executable.path.starts_with(root))
    }

    /// The directory it was started in, or changed to by `-C`, as it sees it. `None`: a chroot
    /// hides it, or it could not be read.
    #[must_use]
    pub fn launch_directory(&self) -> Option<PathBuf> {
        let directory = self.working_directory.as_deref().filter(|_| !self.in_own_jail())?;
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        Some(Path::new("/").join(directory.strip_prefix(root).unwrap_or(directory)))
    }

    /// Every network namespace its listeners may be in, as far as they are known.
    #[must_use]
    pub fn networks(&self) -> BTreeSet<NamespaceId> {
        let others = &self.other_networks;
        let named = others.named.values().flatten();
        let held = others.held.iter().flatten();
        named.chain(held).copied().chain(self.net_namespace).collect()
    }

    /// Its pid as it and its configuration know it.
    #[must_use]
    pub fn own_pid(&self) -> i32 {
        self.namespace_pids.last().copied().unwrap_or(self.id.pid)
    }
}

/// Network namespaces besides its own that a process listens in, or may (`bind … namespace X`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherNetworks {
    /// Those its configuration names, as its mount namespace has them (`/run/netns/X`). `None`:
    /// there is no such name, or it could not be looked up.
    pub named: BTreeMap<String, Option<NamespaceId>>,
    /// Those its descriptors lead to: HAProxy keeps each open that its configuration named when
    /// it was started, whatever has become of file and name since. `None`: could not be read.
    pub held: Option<BTreeSet<NamespaceId>>,
}

/// The file a process executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Path without the kernel's ` (deleted)` mark.
    pub path: PathBuf,
    /// The file is gone or was replaced on disk.
    pub deleted: bool,
}

/// Environment of another process: hostile text, and full of secrets, so it never prints itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub Arc<BTreeMap<String, String>>);

impl Environment {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// Signal masks of a process (`/proc/PID/status`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals {
    /// `SigPnd | ShdPnd`: sent and not yet delivered.
    pub pending: u64,
    /// `SigBlk`.
    pub blocked: u64,
}

impl Signals {
    /// Bit of SIGUSR1, the soft stop.
    pub const SIGUSR1: u64 = 1 << 9;
    /// Bit of SIGUSR2, the master's reload.
    pub const SIGUSR2: u64 = 1 << 11;
}

/// User ids of a process (`/proc/PID/status`, `Uid`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserIds {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
}

impl UserIds {
    /// Every id is `uid`.
    #[must_use]
    pub fn all(uid: u32) -> UserIds {
        UserIds { real: uid, effective: uid, saved: uid }
    }

    /// The user who started a process with these ids may signal one with the ids of `other`
    /// (kill(2)). The effective id does not count: a set-uid program has another's.
    #[must_use]
    pub fn may_signal(&self, other: &UserIds) -> bool {
        self.real == other.real || self.real == other.saved
    }
}

/// A pidfile as found on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Pidfile {
    /// Resolved path, as the process sees it.
    pub path: PathBuf,
    /// What is in it.
    pub content: PidfileContent,
    /// When it was last written.
    pub modified: Option<UnixSeconds>,
    /// Device and inode: equal for one file, whatever it is called in other mount namespaces.
    pub file: Option<(u64, u64)>,
    /// The user who, besides root, can change it or a directory on the way to it; 0 when root alone
    /// can. `None`: several users can, or it is not known.
    pub writer: Option<u32>,
}

impl Pidfile {
    /// One of which nothing but the path is known.
    #[must_use]
    pub fn unread(path: PathBuf) -> Pidfile {
        let content = PidfileContent::Unreadable;
        Pidfile { path, content, modified: None, file: None, writer: None }
    }
}

/// What a pidfile holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidfileContent {
    /// There is no such file.
    Missing,
    /// It could not be read, or its place is not known (a relative path of a chrooted process).
    Unreadable,
    /// These pids, in the pid namespace of the process; none when the file is empty.
    Pids(Vec<i32>),
}
