//! Finds the HAProxy processes of the host and reads each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procfs::process::Stat;
use regex::Regex;

use super::argument_allowance::ArgumentAllowance;
use super::by_pidfile::NamedByPidfile;
use super::process_cache::{Layout, ProcessCache, StableFacts};
use crate::haproxy::command_line::CommandLine;
use crate::model::{
    Environment, Executable, NamespaceId, OtherNetworks, Process, ProcessId, Unreadable, What,
};
use crate::sample::clock::Clock;
use crate::sample::proc::cgroups::CgroupPaths;
use crate::sample::proc::dir::{ProcDir, is_ending};
use crate::sample::proc::error::ReadError;

/// The names of HAProxy's executable, and of its processes in the kernel (comm): HAProxy Enterprise has the second.
const NAMES: [&str; 2] = ["haproxy", "hapee-lb"];

/// Which processes count as HAProxy.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Patterns of command lines, the arguments joined by blanks, that count as HAProxy although
    /// the program has another name.
    pub commands: Vec<Regex>,
    /// Pidfiles whose processes count as HAProxy under any program name.
    pub pidfiles: Vec<PathBuf>,
}

/// An HAProxy process that was just read, with what later steps of the sample need of it.
#[derive(Debug)]
pub struct Found {
    /// The process; its descriptors, pidfile and configuration are still to be read.
    pub process: Process,
    /// Its directory in procfs.
    pub directory: ProcDir,
    /// Its cgroup in each hierarchy.
    pub cgroups: CgroupPaths,
    /// Its UTS namespace.
    pub uts_namespace: Option<NamespaceId>,
    /// Distinguishes the program it runs from those that it ran before.
    pub layout: Layout,
}

/// The outcome of looking at some pids.
#[derive(Debug, Default)]
pub struct Discovered {
    /// The HAProxy processes, oldest first.
    pub found: Vec<Found>,
    /// Pids that are not HAProxy's.
    pub others: Vec<i32>,
    /// Pids that may be HAProxy's: too little could be read to decide it.
    pub unidentified: BTreeSet<i32>,
}

/// Looks at these pids and reads those that are HAProxy.
pub fn discover(
    procfs: &Path,
    pids: &[i32],
    (discovery, named): (&Discovery, &mut NamedByPidfile),
    clock: Clock,
    cache: &mut ProcessCache,
    unreadable: &mut Vec<Unreadable>,
) -> Discovered {
    let mut discovered = Discovered::default();
    let mut allowance = ArgumentAllowance::default();
    for &pid in pids {
        match read(procfs, pid, (discovery, named), clock, (cache, &mut allowance), unreadable) {
            Ok(Some(process)) => discovered.found.push(process),
            Ok(None) => discovered.others.push(pid),
            Err(ReadError::Gone) => {}
            Err(error) => {
                discovered.unidentified.insert(pid);
                unreadable.push(Unreadable {
                    what: What::Process,
                    subject: format!("pid {pid}"),
                    reason: error.to_string(),
                });
            }
        }
    }
    discovered.found.sort_by_key(|found| found.process.id);
    see_cgroups_from_root(procfs, &mut discovered.found);
    discovered
}

/// Makes cgroup paths start at the root of the hierarchy. Where the exporter runs in a container
/// with a cgroup namespace of its own and the host's procfs, the kernel shows them relative to the
/// container's cgroup.
fn see_cgroups_from_root(procfs: &Path, found: &mut [Found]) {
    let outside = |found: &Found| found.cgroups.name().is_some_and(|name| name.starts_with("/.."));
    if !found.iter().any(outside) {
        return;
    }
    let init = ProcDir::open(procfs, 1).and_then(|init| init.text("cgroup"));
    let init = CgroupPaths::parse(&init.unwrap_or_default());
    for found in found {
        found.cgroups = std::mem::take(&mut found.cgroups).from_root(&init);
        let is_dead = found.process.is_zombie();
        let name = if is_dead { found.cgroups.name_of_dead() } else { found.cgroups.name() };
        found.process.cgroup = name.map(str::to_owned);
    }
}

/// The names of the parents that are not HAProxy themselves, by pid.
#[must_use]
pub fn parents(procfs: &Path, found: &[Found]) -> BTreeMap<i32, String> {
    let known: BTreeSet<i32> = found.iter().map(|f| f.process.id.pid).collect();
    let wanted: BTreeSet<i32> = found.iter().map(|f| f.process.parent).collect();
    wanted
        .difference(&known)
        .filter_map(|&pid| Some((pid, ProcDir::open(procfs, pid).ok()?.comm().ok()?)))
        .collect()
}

/// Reads one process; `None` if it is not HAProxy.
fn read(
    procfs: &Path,
    pid: i32,
    (discovery, named): (&Discovery, &mut NamedByPidfile),
    clock: Clock,
    (cache, allowance): (&mut ProcessCache, &mut ArgumentAllowance),
    unreadable: &mut Vec<Unreadable>,
) -> Result<Option<Found>, ReadError> {
    let directory = ProcDir::open(procfs, pid)?;
    let mut exe = directory.link("exe");
    let mut called = exe.as_ref().is_ok_and(|exe| is_haproxy_file(exe));
    if !called {
        called = match directory.comm() {
            // Some processes are closed even to root. Without a name they cannot be called HAProxy.
            Err(ReadError::Denied | ReadError::Other(_)) => return Ok(None),
            comm => NAMES.contains(&&*comm?),
        };
        if called {
            exe = directory.link("exe"); // the process may have executed itself in between
        }
    }
    let ruled_out = named.rules_out(pid, exe.as_deref().ok());
    if !called && discovery.commands.is_empty() && ruled_out {
        return Ok(None);
    }
    let before = directory.stat()?;
    if !allowance.admit(&directory, &before)? {
        if called {
            unreadable.push(Unreadable {
                what: What::Process,
                subject: format!("pid {pid}"),
                reason:
                    "the processes of its user have larger arguments and environments than are \
                         read"
                        .to_owned(),
            });
        }
        return Ok(None);
    }
    let arguments = match directory.strings("cmdline") {
        Err(ReadError::Denied | ReadError::Other(_)) if !called => return Ok(None),
        other => other?,
    };
    let program = exe.as_deref().ok();
    let mut is_named = || named.accepts(pid, clock.time_of(before.starttime), program, &arguments);
    if !is_haproxy(&before.comm, program, &arguments, discovery) && !is_named() {
        return Ok(None);
    }
    let reader = Reader { directory, pid, unreadable, missing: Vec::new() };
    let mut found = reader.read(before, exe, clock, cache)?;
    if arguments.is_empty() {
        // It may have begun to end after its state was read.
        found.process.is_ending |= is_ending(&found.directory.stat()?);
    }
    found.process.arguments =
        (!found.process.is_zombie() && !arguments.is_empty()).then_some(arguments);
    Ok(Some(found))
}

fn is_haproxy_file(exe: &Path) -> bool {
    let path = Executable::path_of_link(exe);
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| NAMES.contains(&name))
}

/// Decides by the executable, the kernel's name and the configured patterns. A process whose
/// arguments HAProxy's own parser would refuse is a wrapper, and a run such as `-c` or `-vv`, which
/// only prints an answer, is not a service.
fn is_haproxy(comm: &str, exe: Option<&Path>, arguments: &[String], wider: &Discovery) -> bool {
    if arguments.is_empty() {
        return NAMES.contains(&comm); // a zombie, or a process in the middle of execve(2)
    }
    let Some(line) = CommandLine::parse(arguments) else { return false };
    if line.only_answers {
        return false;
    }
    let first = arguments.first().map_or("", String::as_str);
    let name = Path::new(first).file_name().and_then(|name| name.to_str());
    let called_so = name.is_some_and(|name| NAMES.contains(&name));
    exe.is_some_and(is_haproxy_file)
        || (NAMES.contains(&comm) && (exe.is_none() || called_so))
        || wider.commands.iter().any(|command| command.is_match(&arguments.join(" ")))
}

struct Reader<'a> {
    directory: ProcDir,
    pid: i32,
    unreadable: &'a mut Vec<Unreadable>,
    missing: Vec<&'static str>,
}

impl Reader<'_> {
    fn read(
        mut self,
        stat: Stat,
        exe: Result<PathBuf, ReadError>,
        clock: Clock,
        cache: &mut ProcessCache,
    ) -> Result<Found, ReadError> {
        let alive = stat.state != 'Z' && stat.state != 'X';
        let (code, stack) = (Some(stat.startcode), Some(stat.startstack));
        let layout = [code, stack, stat.start_brk, stat.arg_start, stat.env_start];
        let id = ProcessId { start_ticks: stat.starttime, pid: self.pid };
        let executable = self.of_living(alive, exe, What::Process, "exe")?;
        let link = |this: &mut Self, name| {
            let target = this.directory.link(name);
            this.of_living(alive, target, What::Process, name)
        };
        let (working_directory, root) = (link(&mut self, "cwd")?, link(&mut self, "root")?);
        let facts = if let Some(facts) = cache.get(id, layout) {
            facts
        } else {
            let facts = self.read_stable_facts(alive)?;
            if self.missing.is_empty() {
                cache.put(id, layout, facts.clone());
            }
            facts
        };
        // This is read last: of a process that has died meanwhile only half was seen.
        let status = self.directory.status()?;
        if alive && matches!(status.run_state, 'Z' | 'X') {
            return Err(ReadError::Gone);
        }
        let process = Process {
            id,
            started: clock.time_of(stat.starttime),
            parent: stat.ppid,
            session: stat.session,
            is_ending: is_ending(&stat),
            comm: stat.comm,
            run_state: stat.state,
            arguments: None,
            executable: executable.map(|path| Executable::of_link(&path)),
            working_directory,
            root,
            environment: facts.environment,
            cgroup: if alive { facts.cgroups.name() } else { facts.cgroups.name_of_dead() }
                .map(str::to_owned),
            users: Some(status.users),
            pid_namespace: facts.pid_namespace,
            net_namespace: facts.net_namespace,
            other_networks: OtherNetworks::default(),
            mount_namespace: facts.mount_namespace,
            namespace_pids: if status.namespace_pids.is_empty() {
                vec![self.pid]
            } else {
                status.namespace_pids
            },
            signals: Some(status.signals),
            tracer: status.tracer,
            anonymous_memory_bytes: status.anonymous_memory_bytes,
            open_fds: None,
            max_fds: facts.max_fds,
            sockets: None,
            pidfile: None,
            configuration: None,
        };
        let StableFacts { cgroups, uts_namespace, .. } = facts;
        Ok(Found { process, directory: self.directory, cgroups, uts_namespace, layout })
    }

    fn read_stable_facts(&mut self, alive: bool) -> Result<StableFacts, ReadError> {
        let namespace = |this: &mut Self, name| {
            let id = this.directory.namespace(name);
            this.of_living(alive, id, What::Namespace, name)
        };
        let net_namespace = namespace(self, "net")?;
        let pid_namespace = namespace(self, "pid")?;
        let mount_namespace = namespace(self, "mnt")?;
        let environ = self.directory.strings("environ");
        let environment = self.of_living(alive, environ, What::Environment, "environ")?;
        Ok(StableFacts {
            environment: environment.map(|strings| environment_of(&strings)),
            net_namespace,
            pid_namespace,
            mount_namespace,
            uts_namespace: self.directory.namespace("uts").ok(),
            cgroups: CgroupPaths::parse(&self.directory.text("cgroup").unwrap_or_default()),
            max_fds: self.directory.max_fds().ok().flatten(),
        })
    }

    /// Records what a living process does not show as unreadable. A zombie has none of it.
    fn of_living<T>(
        &mut self,
        alive: bool,
        result: Result<T, ReadError>,
        what: What,
        name: &'static str,
    ) -> Result<Option<T>, ReadError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if !alive => Ok(None),
            Err(ReadError::Gone) => Err(ReadError::Gone),
            Err(error) => {
                // One entry for each kind, however many of its files are hidden.
                if !self.missing.contains(&what.as_str()) {
                    self.missing.push(what.as_str());
                    self.unreadable.push(denied(what, self.pid, name, &error));
                }
                Ok(None)
            }
        }
    }
}

/// The entry for a part of a process that could not be read, with the right that is missing.
#[must_use]
pub fn denied(what: What, pid: i32, name: &str, error: &ReadError) -> Unreadable {
    let right = match (error, what) {
        (ReadError::Denied, What::Descriptors | What::Environment) => {
            "; needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        }
        (ReadError::Denied, _) => "; needs CAP_SYS_PTRACE",
        _ => "",
    };
    Unreadable { what, subject: format!("pid {pid}"), reason: format!("{name}: {error}{right}") }
}

fn environment_of(strings: &[String]) -> Environment {
    let pairs = strings.iter().filter_map(|string| string.split_once('='));
    let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Environment(Arc::new(owned.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_is_recognised_by_file_name_or_pattern() {
        let wider = Discovery {
            commands: vec![Regex::new(r"^/opt/lb/haproxy_[ab] ").unwrap()],
            ..Discovery::default()
        };
        let table: [(&str, Option<&str>, &str, bool); 14] = [
            ("haproxy", Some("/usr/sbin/haproxy"), "/usr/sbin/haproxy -f a", true),
            ("haproxy", Some("/usr/sbin/haproxy (deleted)"), "haproxy -f a", true),
            ("haproxy", None, "haproxy -W -f a", true),
            ("lb", Some("/opt/haproxy"), "lb -f a", true),
            ("hapee-lb", Some("/opt/hapee-2.8/sbin/hapee-lb"), "hapee-lb -Ws -f a", true),
            ("haproxy", Some("/opt/haproxy-2.8"), "haproxy -f a", true), // started through a link
            ("haproxy", Some("/usr/bin/dash"), "/bin/sh /usr/local/sbin/haproxy -f a", false),
            ("haproxy", Some("/usr/sbin/haproxy"), "haproxy -c -f a", false),
            ("haproxy", Some("/usr/sbin/haproxy"), "haproxy -vv", false),
            ("haproxy_a", Some("/opt/lb/haproxy_a"), "/opt/lb/haproxy_a -f a", true),
            ("haproxy_c", Some("/opt/lb/haproxy_c"), "/opt/lb/haproxy_c -f a", false),
            ("sh", Some("/bin/sh"), "sh -c /opt/lb/haproxy_a -f a", false),
            ("haproxy_exporte", Some("/usr/bin/haproxy_exporter"), "haproxy_exporter", false),
            ("haproxy", None, "", true), // a zombie
        ];
        for (comm, exe, line, expected) in table {
            let arguments: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
            let judged = is_haproxy(comm, exe.map(Path::new), &arguments, &wider);
            assert_eq!(judged, expected, "{comm} {exe:?} {line}");
        }
    }

    #[test]
    fn the_mark_of_a_deleted_executable_is_no_part_of_its_path() {
        let replaced = Executable::of_link(Path::new("/usr/sbin/haproxy (deleted)"));
        assert_eq!(replaced, Executable { path: "/usr/sbin/haproxy".into(), deleted: true });
    }
}
