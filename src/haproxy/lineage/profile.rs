//! The traits that two generations of one service have in common: a pidfile, a configuration, and the
//! values of the variables that the configuration reads.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ring::digest::{Context, Digest, SHA256};

use super::member::{Member, Role};
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::environment;
use crate::haproxy::listeners::{Holding, Listening};
use crate::haproxy::places::Endpoint;
use crate::model::time::is_surely_after;
use crate::model::{Environment, NamespaceId, Process, ProcessId};

/// Start times are counted in ticks, so a file written just before may seem this much younger.
const TICK_SECONDS: f64 = 0.1;
/// Variables that a shell or a session changes by itself. They do not count where all variables are
/// compared, because the configuration that reads them is not known.
const SHELL_VARIABLES: [&str; 4] = ["OLDPWD", "PWD", "SHLVL", "_"];

/// What two processes may have in common, without which they cannot be alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Likeness<'p> {
    /// A pidfile of this name, as seen from one root directory and mount namespace.
    Pidfile(&'p Path, Option<&'p Path>, Option<NamespaceId>),
    /// A pidfile that is this file.
    File((u64, u64)),
    /// The arguments that a reload keeps, in one root directory and the same namespaces.
    Manner(Option<&'p [String]>, Option<&'p Path>, [Option<NamespaceId>; 3]),
}

/// What one process was given.
pub struct Profile<'m, 'a> {
    member: &'m Member<'a>,
    line: Option<&'m CommandLine>,
    /// The root directory it was started in; `None` where a chroot hides it.
    root: Option<&'a Path>,
    /// Where its pidfile is; `None` if it has none, or a chroot hides where.
    pidfile: Option<PathBuf>,
    /// Where its configuration is; `None` if a chroot hides where.
    files: Option<Vec<PathBuf>>,
    holding: Option<&'m Holding<'m>>,
    /// What it listens on, ascending. Few processes are asked.
    endpoints: OnceCell<Vec<Endpoint>>,
    /// Its environment without what a shell or HAProxy itself changes.
    values: OnceCell<Digest>,
    /// It holds what a listener is; `None` if that could not be seen.
    pub serves: Option<bool>,
}

impl<'m, 'a> Profile<'m, 'a> {
    /// Gathers the traits of a process.
    #[must_use]
    pub fn of(
        member: &'m Member<'a>,
        holdings: &'m BTreeMap<ProcessId, Holding<'m>>,
    ) -> Profile<'m, 'a> {
        let (process, line) = (member.process, member.line.as_ref());
        let unread = process.root.is_none().then(|| PathBuf::from("/"));
        let directory = line.and_then(|line| line.launch_directory(process)).or(unread);
        let resolve = |path: &String| CommandLine::resolve(directory.as_deref(), path);
        let by_line = line.and_then(|line| line.pidfile.as_ref());
        let configured = || process.pidfile.as_ref().map(|file| file.path.clone());
        let holding = holdings.get(&member.id());
        Profile {
            member,
            line,
            root: process.root.as_deref().filter(|_| !process.in_own_jail()),
            pidfile: match by_line {
                Some(path) => resolve(path),
                None => configured().filter(|path| path.is_absolute()),
            },
            files: line.and_then(|line| {
                let named = line.files.iter().chain(&line.directory);
                named.map(resolve).collect()
            }),
            holding,
            endpoints: OnceCell::new(),
            values: OnceCell::new(),
            serves: holding.and_then(Holding::serves),
        }
    }

    /// What another process must have in common with this one for the two to be alike: one of these is enough.
    pub fn likenesses(&self) -> impl Iterator<Item = Likeness<'_>> {
        let pidfile = self.pidfile.as_deref();
        let mounts = self.process().mount_namespace;
        let named = pidfile.map(|path| Likeness::Pidfile(path, self.root, mounts));
        let file = pidfile.and_then(|_| self.pidfile_read()).map(Likeness::File);
        named.into_iter().chain(file).chain([self.manner()])
    }

    /// How it was started, without what a reload changes.
    #[must_use]
    pub fn manner(&self) -> Likeness<'_> {
        let [pids, network] = self.namespaces();
        let kept = self.line.map(|line| line.kept.as_slice());
        Likeness::Manner(kept, self.root, [pids, network, self.process().mount_namespace])
    }

    /// It has a pidfile that names it, and a configuration, and both differ from those of `other`.
    #[must_use]
    pub fn is_neighbour_of(&self, other: &Profile<'_, '_>) -> bool {
        let knows_both = |profile: &Profile<'_, '_>| {
            profile.pidfile.is_some()
                && profile.files.as_ref().is_some_and(|files| !files.is_empty())
        };
        self.process().is_named_by_its_pidfile()
            && knows_both(self)
            && knows_both(other)
            && !self.shares_pidfile(other)
            && self.files != other.files
    }

    /// It is neither a master nor a worker.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.member.role == Role::Daemon
    }

    fn process(&self) -> &'a Process {
        self.member.process
    }

    /// They see the same files under the same names.
    fn shares_view(&self, other: &Profile<'_, '_>) -> bool {
        let mounts = |profile: &Profile<'_, '_>| profile.process().mount_namespace;
        self.root == other.root && mounts(self) == mounts(other)
    }

    fn namespaces(&self) -> [Option<NamespaceId>; 2] {
        [self.process().pid_namespace, self.process().net_namespace]
    }

    fn shares_namespaces(&self, other: &Profile<'_, '_>) -> bool {
        self.namespaces() == other.namespaces() && self.shares_view(other)
    }

    /// The file that its pidfile was when it was read.
    fn pidfile_read(&self) -> Option<(u64, u64)> {
        self.process().pidfile.as_ref().and_then(|pidfile| pidfile.file)
    }

    /// Their pidfile is one file. HAProxy removes it and makes it anew when it starts, so one path may have
    /// been read as two files.
    fn shares_pidfile(&self, other: &Profile<'_, '_>) -> bool {
        let (Some(own), Some(others)) = (&self.pidfile, &other.pidfile) else { return false };
        let named_alike = own == others && self.shares_view(other);
        let file = self.pidfile_read();
        named_alike || (file.is_some() && file == other.pidfile_read())
    }

    /// They read the same files, and mean the same local peer.
    fn shares_configuration(&self, other: &Profile<'_, '_>) -> bool {
        let (Some(own), Some(others)) = (self.line, other.line) else { return false };
        self.files.is_some()
            && self.files == other.files
            && own.local_peer == others.local_peer
            && self.shares_view(other)
            && self.shares_values(other)
    }

    /// Every variable that their configurations read has the same value for both. Where it is not
    /// known which these are, all variables count.
    fn shares_values(&self, other: &Profile<'_, '_>) -> bool {
        let environments = (&self.process().environment, &other.process().environment);
        let (Some(own), Some(others)) = environments else { return false };
        let is_same = || self.values(own) == other.values(others);
        let (Some(mine), Some(theirs)) =
            (&self.process().configuration, &other.process().configuration)
        else {
            return is_same();
        };
        let (mine, theirs) = (&mine.declared.variables, &theirs.declared.variables);
        let mut names = mine.union(theirs).filter(|name| !environment::is_own_variable(name));
        names.all(|name| own.get(name) == others.get(name))
    }

    /// A digest of the variables that count where it is not known which are read.
    fn values(&self, environment: &Environment) -> &[u8] {
        let counts = |(name, _): &(&String, &String)| {
            !environment::is_own_variable(name) && !SHELL_VARIABLES.contains(&&***name)
        };
        let digest = self.values.get_or_init(|| {
            let mut context = Context::new(&SHA256);
            // No name and no value has a zero byte.
            for text in environment.0.iter().filter(counts).flat_map(|(name, value)| [name, value])
            {
                context.update(text.as_bytes());
                context.update(&[0]);
            }
            context.finish()
        });
        digest.as_ref()
    }

    /// They listen on one address and port.
    fn shares_endpoint(&self, other: &Profile<'_, '_>) -> bool {
        let (mut own, mut others) = (self.endpoints().iter(), other.endpoints().iter());
        let (mut one, mut two) = (own.next(), others.next());
        while let (Some(mine), Some(theirs)) = (one, two) {
            match mine.cmp(theirs) {
                Ordering::Less => one = own.next(),
                Ordering::Equal => return true,
                Ordering::Greater => two = others.next(),
            }
        }
        false
    }

    fn endpoints(&self) -> &[Endpoint] {
        self.endpoints.get_or_init(|| {
            let listeners = self.holding.iter().flat_map(|holding| &holding.listeners);
            let mut endpoints: Vec<Endpoint> = listeners.map(Listening::endpoint).collect();
            endpoints.sort_unstable();
            endpoints
        })
    }

    /// It runs in the background, made its listeners itself, and shows its environment.
    fn can_be_likened(&self) -> bool {
        let configuration = self.process().configuration.as_ref();
        let inherits = configuration.is_some_and(|c| !c.declared.inherited.is_empty());
        self.member.is_in_background() && !inherits && self.process().environment.is_some()
    }

    /// A later process with the same pidfile of the same starter took over, or was meant to.
    ///
    /// `is_alive`: there is a living HAProxy of this pid in the later one's pid namespace.
    #[must_use]
    pub fn is_replaced_by_pidfile(
        &self,
        later: &Profile<'_, '_>,
        is_alive: impl Fn(i32) -> bool,
    ) -> bool {
        let (older, newer) = (self.member, later.member);
        if !self.shares_pidfile(later)
            || !newer.has_starter_of(older)
            || !self.can_be_likened()
            || !later.can_be_likened()
        {
            return false;
        }
        let lost_its_predecessor =
            || newer.replaces().is_some_and(|pids| !pids.iter().any(|&pid| is_alive(pid)));
        if self.shares_configuration(later) || self.shares_endpoint(later) {
            return true;
        }
        // Two processes that read one file with different values are twins, not releases of one service.
        // With the same values, the same file in another mount namespace is another release: `ip netns exec`
        // makes a new namespace each time.
        let are_twins =
            self.files.is_some() && self.files == later.files && !self.shares_values(later);
        !are_twins
            && (lost_its_predecessor()
                || (self.serves == Some(false) && later.serves == Some(true)))
    }

    /// A later daemon was started at the same place in the same way, and the configuration had
    /// changed in between. `changed`: that was seen.
    #[must_use]
    pub fn is_replaced_in_place(&self, later: &Profile<'_, '_>, changed: bool) -> bool {
        let (older, newer) = (self.member, later.member);
        let daemons = self.is_daemon() && later.is_daemon();
        daemons
            && !self.is_parent_or_child_of(later)
            && self.shares_relative_paths(later)
            && newer.has_starter_of(older)
            && self.can_be_likened()
            && later.can_be_likened()
            && self.shares_namespaces(later)
            && self.process().cgroup == later.process().cgroup
            && self.shares_arguments(later)
            && self.shares_configuration(later)
            && (changed || self.was_followed_by_a_change(later))
    }

    /// One of them has started the other, so that neither replaces the other.
    fn is_parent_or_child_of(&self, other: &Profile<'_, '_>) -> bool {
        let (own, others) = (self.process(), other.process());
        own.parent == others.id.pid || others.parent == own.id.pid
    }

    /// The relative paths of unix sockets in their configurations lead to the same places.
    fn shares_relative_paths(&self, other: &Profile<'_, '_>) -> bool {
        let has_some = |profile: &Profile<'_, '_>| {
            let declared = profile.process().configuration.iter().flat_map(|c| &c.declared.unix);
            declared.into_iter().any(|unix| !unix.is_abstract && !unix.path.starts_with('/'))
        };
        let directory = |profile: &Profile<'_, '_>| profile.process().launch_directory();
        !(has_some(self) || has_some(other)) || directory(self) == directory(other)
    }

    /// Its arguments are the same, apart from what a reload changes.
    fn shares_arguments(&self, other: &Profile<'_, '_>) -> bool {
        self.line.map(|line| &line.kept) == other.line.map(|line| &line.kept)
    }

    fn was_followed_by_a_change(&self, later: &Profile<'_, '_>) -> bool {
        let Some(configuration) = &later.process().configuration else { return false };
        let modified = configuration.modified;
        is_surely_after(modified, self.process().started)
            && modified <= later.process().started + TICK_SECONDS
    }

    /// The process holds no listener, as far as can be seen, and was started like a later one that may serve. HAProxy
    /// holds every listener that it declares from its start on, so this process has given its listeners up.
    #[must_use]
    pub fn is_left_over_of(&self, later: &Profile<'_, '_>) -> bool {
        self.serves != Some(true)
            && later.serves != Some(false)
            && !self.is_parent_or_child_of(later)
            && later.member.has_starter_of(self.member)
            && self.shares_namespaces(later)
            && self.shares_arguments(later)
            && self.member.role == later.member.role
            && (self.member.role == Role::Daemon || self.process().cgroup == later.process().cgroup)
            && match (&self.files, &later.files) {
                (Some(_), Some(_)) => self.shares_configuration(later),
                // A chroot hides where both were started.
                (None, None) => {
                    self.process().cgroup == later.process().cgroup && self.shares_jail(later)
                }
                _ => false,
            }
    }

    /// A chroot hides where both were started, the later one lost its predecessor, and the shell
    /// that started them stood in the same directory.
    #[must_use]
    pub fn is_replaced_in_jail(
        &self,
        later: &Profile<'_, '_>,
        is_alive: impl Fn(i32) -> bool,
    ) -> bool {
        let given = |profile: &Profile<'_, '_>| profile.line.and_then(|line| line.pidfile.clone());
        let directory = |profile: &Profile<'_, '_>| {
            let environment = profile.process().environment.as_ref();
            environment.and_then(|environment| environment.get("PWD")).map(str::to_owned)
        };
        let (older, newer) = (self.member, later.member);
        self.pidfile.is_none()
            && later.pidfile.is_none()
            && given(self).is_some()
            && newer.has_starter_of(older)
            && self.can_be_likened()
            && later.can_be_likened()
            && self.shares_namespaces(later)
            && self.shares_jail(later)
            && self.process().cgroup == later.process().cgroup
            && self.shares_arguments(later)
            && directory(self).is_some()
            && directory(self) == directory(later)
            && newer.replaces().is_some_and(|pids| !pids.iter().any(|&pid| is_alive(pid)))
    }

    fn shares_jail(&self, other: &Profile<'_, '_>) -> bool {
        self.process().root == other.process().root
    }
}
