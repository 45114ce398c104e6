//! A process as procfs shows it, with its pidfile, its configuration and the sockets it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configuration::Configuration;
use super::declared::Globals;
use super::network::NamespaceId;
use super::socket::SocketInode;
use super::time::UnixSeconds;

/// The identity of a process. Pids are reused; the pair of pid and start is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// The ticks from boot to its start (`/proc/PID/stat`, field 22). It comes first, so that ids sort by
    /// age.
    pub start_ticks: u64,
    /// The pid in the pid namespace of the procfs that was read.
    pub pid: i32,
}

/// One HAProxy process, or a dead one that its parent has not reaped.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its identity.
    pub id: ProcessId,
    /// When it was started.
    pub started: UnixSeconds,
    /// The pid of its parent; 0 if the parent is outside this pid namespace.
    pub parent: i32,
    /// Its session id. A detached daemon leads its own session.
    pub session: i32,
    /// Its name, at most 15 bytes (`/proc/PID/stat`, field 2).
    pub comm: String,
    /// The letter of its state: R, S, D, T, Z and so on (`/proc/PID/stat`, field 3).
    pub run_state: char,
    /// It is ending: it executes nothing any more, has given up its memory, and is giving up its descriptors
    /// (`PF_EXITING` in `/proc/PID/stat`, field 9). On a busy machine that may take a while.
    pub is_ending: bool,
    /// Its arguments, the name of the program first (`/proc/PID/cmdline`); `None` if unreadable or a
    /// zombie.
    pub arguments: Option<Vec<String>>,
    /// The file it executes (`/proc/PID/exe`, which needs `CAP_SYS_PTRACE` for other users' processes).
    pub executable: Option<Executable>,
    /// Its working directory (`/proc/PID/cwd`).
    pub working_directory: Option<PathBuf>,
    /// Its root directory (`/proc/PID/root`); `/` unless it is in a chroot.
    pub root: Option<PathBuf>,
    /// The environment that it was executed with (`/proc/PID/environ`).
    pub environment: Option<Environment>,
    /// The path of its cgroup in the unified hierarchy, or in `name=systemd`, or in that of the memory
    /// controller.
    pub cgroup: Option<String>,
    /// Its user ids, as numbered in the reader's user namespace.
    pub users: Option<UserIds>,
    /// Its pid namespace.
    pub pid_namespace: Option<NamespaceId>,
    /// Its network namespace.
    pub net_namespace: Option<NamespaceId>,
    /// The other network namespaces that it listens in or may listen in.
    pub other_networks: OtherNetworks,
    /// Its mount namespace.
    pub mount_namespace: Option<NamespaceId>,
    /// Its pid in each pid namespace, from the reader's to its own (`NSpid`).
    pub namespace_pids: Vec<i32>,
    /// Its pending, blocked and caught signals.
    pub signals: Option<Signals>,
    /// The pid of the process that traces it (ptrace(2)); 0 if it is not traced (`TracerPid`).
    pub tracer: i32,
    /// Its anonymous resident memory (`RssAnon`).
    pub anonymous_memory_bytes: Option<u64>,
    /// The number of its open descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit on its descriptors (`/proc/PID/limits`).
    pub max_fds: Option<u64>,
    /// The possible listeners that it holds, including sockets that were listeners when its descriptors
    /// were last listed; `None` if its descriptors are unreadable.
    pub sockets: Option<Arc<BTreeSet<SocketInode>>>,
    /// The pidfile that its command line or its configuration names.
    pub pidfile: Option<Pidfile>,
    /// Its configuration as it is on disk now; `None` if it names none, or none is readable.
    pub configuration: Option<Arc<Configuration>>,
}

impl Process {
    /// Whether it is dead and not yet reaped by its parent.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.run_state, 'Z' | 'X')
    }

    /// Whether it executes anything any more: it is neither dead nor ending.
    #[must_use]
    pub fn lives(&self) -> bool {
        !self.is_zombie() && !self.is_ending
    }

    /// Whether it is running, or ready to, or waits for the disk. One that waits for something to do sleeps.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        matches!(self.run_state, 'R' | 'D')
    }

    /// Whether it has called chroot(2) since it was executed, so that its program is outside its root.
    ///
    /// A process that was started inside a chroot sees its program and its files.
    #[must_use]
    pub fn in_own_jail(&self) -> bool {
        let Some(root) = self.root.as_deref().filter(|root| *root != Path::new("/")) else {
            return false;
        };
        self.executable.as_ref().is_none_or(|executable| !executable.path.starts_with(root))
    }

    /// The settings of its configuration, if nothing has happened to the files since it was started. What the files
    /// say later is not what the process was told.
    #[must_use]
    pub fn loaded_globals(&self) -> Option<&Globals> {
        let configuration = self.configuration.as_deref();
        let loaded = configuration.filter(|files| files.was_there_at(self.started));
        loaded.map(|configuration| &configuration.declared.globals)
    }

    /// Returns the directory it was started in, or changed to by `-C`, as it sees it; `None` if a chroot
    /// hides the directory, or it is unreadable.
    #[must_use]
    pub fn launch_directory(&self) -> Option<PathBuf> {
        let directory = self.working_directory.as_deref().filter(|_| !self.in_own_jail())?;
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        Some(Path::new("/").join(directory.strip_prefix(root).unwrap_or(directory)))
    }

    /// Returns every known network namespace that its listeners may be in.
    #[must_use]
    pub fn networks(&self) -> BTreeSet<NamespaceId> {
        let others = &self.other_networks;
        let named = others.named.values().flatten();
        let held = others.held.iter().flatten();
        named.chain(held).copied().chain(self.net_namespace).collect()
    }

    /// Whether its pidfile names it.
    #[must_use]
    pub fn is_named_by_its_pidfile(&self) -> bool {
        self.pidfile.as_ref().is_some_and(|pidfile| pidfile.names(self))
    }

    /// Returns its pid in its own pid namespace.
    #[must_use]
    pub fn own_pid(&self) -> i32 {
        self.namespace_pids.last().copied().unwrap_or(self.id.pid)
    }
}

/// The network namespaces besides its own that a process listens in or may listen in (`bind …
/// namespace X`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherNetworks {
    /// The namespaces that its configuration names, looked up in its mount namespace (`/run/netns/X`);
    /// `None` if the name does not exist or could not be looked up.
    pub named: BTreeMap<String, Option<NamespaceId>>,
    /// The namespaces that its descriptors refer to; `None` if unreadable. HAProxy keeps every namespace
    /// open that its configuration named at the start, even if the file is gone.
    pub held: Option<BTreeSet<NamespaceId>>,
}

/// The file that a process executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Its path, without the kernel's suffix ` (deleted)`.
    pub path: PathBuf,
    /// The file was deleted or replaced on disk.
    pub deleted: bool,
}

impl Executable {
    /// The file that the link `/proc/PID/exe` names. The kernel appends ` (deleted)` to the path of a file
    /// that was deleted (proc_pid_exe(5)).
    #[must_use]
    pub fn of_link(link: &Path) -> Executable {
        let path = Executable::path_of_link(link);
        Executable { path: path.to_owned(), deleted: path != link }
    }

    /// The path of that file, without the suffix.
    #[must_use]
    pub fn path_of_link(link: &Path) -> &Path {
        let text = link.as_os_str().as_bytes();
        Path::new(OsStr::from_bytes(text.strip_suffix(b" (deleted)").unwrap_or(text)))
    }
}

/// The environment of a process. It is hostile text and may hold secrets, so `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub Arc<BTreeMap<String, String>>);

impl Environment {
    /// Returns the value of a variable.
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

/// The signal masks of a process (`/proc/PID/status`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals {
    /// The signals that are sent and not yet delivered (`SigPnd | ShdPnd`).
    pub pending: u64,
    /// The blocked signals (`SigBlk`).
    pub blocked: u64,
    /// The signals that have a handler (`SigCgt`). Most others end the process.
    pub caught: u64,
}

impl Signals {
    /// The bit of SIGUSR1, the soft stop.
    pub const SIGUSR1: u64 = 1 << 9;
    /// The bit of SIGUSR2, the reload of a master.
    pub const SIGUSR2: u64 = 1 << 11;
}

/// The user ids of a process (`/proc/PID/status`, `Uid`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserIds {
    /// The real user id.
    pub real: u32,
    /// The effective user id.
    pub effective: u32,
    /// The saved user id.
    pub saved: u32,
}

impl UserIds {
    /// Whether every id is `uid`.
    #[must_use]
    pub fn all(uid: u32) -> UserIds {
        UserIds { real: uid, effective: uid, saved: uid }
    }

    /// Whether one of the ids is `uid`.
    #[must_use]
    pub fn include(&self, uid: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&uid)
    }

    /// Whether the user who started a process with these ids may signal one with the ids of `other`
    /// (kill(2)). The effective id does not count, because a set-uid program has that of another user.
    #[must_use]
    pub fn may_signal(&self, other: &UserIds) -> bool {
        self.real == other.real || self.real == other.saved
    }
}

/// A pidfile as it is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Pidfile {
    /// Its resolved path, as the process sees it.
    pub path: PathBuf,
    /// Its content.
    pub content: PidfileContent,
    /// When it was last written.
    pub modified: Option<UnixSeconds>,
    /// Its device and inode, which are the same in every mount namespace, under any name.
    pub file: Option<(u64, u64)>,
    /// The one user besides root who can change the file or a directory on its path; 0 if only root
    /// can; `None` if several users can, or if that is unknown.
    pub writer: Option<u32>,
}

impl Pidfile {
    /// Whether the file names a process, by its pid in its own pid namespace.
    #[must_use]
    pub fn names(&self, process: &Process) -> bool {
        matches!(&self.content, PidfileContent::Pids(pids) if pids.contains(&process.own_pid()))
    }

    /// A pidfile of which only the path is known.
    #[must_use]
    pub fn unread(path: PathBuf) -> Pidfile {
        let content = PidfileContent::Unreadable;
        Pidfile { path, content, modified: None, file: None, writer: None }
    }
}

/// The content of a pidfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidfileContent {
    /// The file does not exist.
    Missing,
    /// The file is unreadable, or its place is unknown (a relative path of a process in a chroot).
    Unreadable,
    /// The pids in the file, in the pid namespace of the process; none if the file is empty.
    Pids(Vec<i32>),
}
