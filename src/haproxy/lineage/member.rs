//! A process as a member of a service: its role, its command line and its master.

use crate::haproxy::command_line::CommandLine;
use crate::model::named::named;
use crate::model::{Process, ProcessId, UserIds};

named! {
    /// The role that a process plays in its service.
    pub enum Role {
        /// Starts workers and takes no clients itself.
        Master = "master",
        /// Serves, and answers to a master.
        Worker = "worker",
        /// Serves without a master, in the background or not.
        Daemon = "daemon",
    }
}

/// A process with what its command line and its relatives say of it.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The process.
    pub process: &'a Process,
    /// Its command line; `None` for a zombie.
    pub line: Option<CommandLine>,
    /// Its role.
    pub role: Role,
    /// The role is beyond doubt: the process was seen as a parent or child of another HAProxy, now or
    /// before.
    pub role_is_certain: bool,
    /// The master it is a child of.
    pub master: Option<ProcessId>,
    /// It was told to become a daemon and has not detached yet: its child will be the service.
    pub launching: bool,
    /// The user who started it; `None` if it could not be seen.
    pub starter: Option<u32>,
}

impl Member<'_> {
    /// The process's identity.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.process.id
    }

    /// It is neither a zombie nor about to be one.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.process.lives()
    }

    /// The pids it was told to replace, in its own pid namespace; `None` without `-sf`, `-st`.
    #[must_use]
    pub fn replaces(&self) -> Option<&[i32]> {
        self.line.as_ref()?.replaces.as_deref()
    }

    /// Its `-sf` or `-st` names `older`, by a pid that meant this very process at the time, and it could
    /// have signalled that one: a list of pids is a claim that any user can make.
    #[must_use]
    pub fn was_told_to_replace(&self, older: &Process) -> bool {
        let names = |pids: &[i32]| pids.contains(&older.own_pid());
        self.could_replace(older) && self.replaces().is_some_and(names)
    }

    /// It would replace `older` if it were told to: a list of pids can mean that process, which this one
    /// could have signalled.
    #[must_use]
    pub fn could_replace(&self, older: &Process) -> bool {
        older.id < self.id()
            && older.pid_namespace == self.process.pid_namespace
            && self.may_signal(older.users)
    }

    /// It was started as root, or as the user of a process with these ids.
    #[must_use]
    pub fn may_signal(&self, users: Option<UserIds>) -> bool {
        let own = self.process.users;
        self.starter == Some(0) || own.zip(users).is_some_and(|(own, users)| own.may_signal(&users))
    }

    /// One user started both, or both run as one user, who may then do with either as it likes.
    #[must_use]
    pub fn has_starter_of(&self, other: &Member<'_>) -> bool {
        let real = |member: &Member<'_>| member.process.users.map(|users| users.real);
        let same = |one: Option<u32>, two: Option<u32>| one.is_some() && one == two;
        same(self.starter, other.starter) || same(real(self), real(other))
    }

    /// It has detached from what started it, or was told to.
    #[must_use]
    pub fn is_in_background(&self) -> bool {
        self.line.as_ref().is_some_and(|line| becomes_daemon(self.process, line))
    }
}

/// A daemon detaches into a session of its own, also from a launcher that leads one itself.
#[must_use]
pub fn leads_session(process: &Process) -> bool {
    process.session == process.id.pid
}

/// It was told to detach, by `-D` or by its configuration. A file that was edited since counts only for a process
/// that has detached.
#[must_use]
pub fn becomes_daemon(process: &Process, line: &CommandLine) -> bool {
    let configured = || {
        let stays =
            ["d", "db"].iter().any(|switch| line.switches.contains(*switch)) || line.notifies;
        let edited = || {
            let configuration = process.configuration.as_ref();
            configuration.filter(|_| leads_session(process)).map(|files| &files.declared.globals)
        };
        !stays && process.loaded_globals().or_else(edited).is_some_and(|globals| globals.daemon)
    };
    line.daemon || configured()
}
