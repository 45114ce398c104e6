//! Reads the pidfiles that command lines name, each through a process that sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{OFlags, Stat};
use rustix::time::ClockId;

use super::reader::reader_of;
use crate::haproxy::command_line::CommandLine;
use crate::model::{Pidfile, PidfileContent, Process, ProcessId, Unreadable, What};
use crate::sample::clock::{REVIEW_SECONDS, now, seconds};
use crate::sample::discovery::processes::Found;
use crate::sample::discovery::root_view::root_view;
use crate::sample::paths::access::{Reader, may_be_followed, may_be_shown};
use crate::sample::paths::route::{self, Route};
use crate::sample::paths::writers::sole_writer;
use crate::sample::proc::dir::{ProcDir, read_up_to};
use crate::sample::proc::error::ReadError;

/// A pidfile holds a few numbers; what is larger is none.
const LIMIT_BYTES: u64 = 64 * 1024;
/// A file that has not changed for so long shows each further change by its time.
const SETTLED_SECONDS: f64 = 2.0;

/// The pidfiles as they were last read. One that could be read is read again when it has changed, and once a minute,
/// because the directories on the way to it may have got other owners.
#[derive(Debug, Default)]
pub struct Pidfiles {
    known: BTreeMap<ProcessId, Reading>,
}

#[derive(Debug)]
struct Reading {
    at: f64,
    identity: Identity,
    pidfile: Pidfile,
}

/// What shows that a file is the same and was not touched: device, inode, size, and when it was changed last.
type Identity = (u64, u64, i64, i64, i64);

fn identity(stat: &Stat) -> Identity {
    let nanoseconds = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
    (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, nanoseconds)
}

#[allow(clippy::cast_precision_loss)] // seconds of this era fit
fn is_settled(stat: &Stat) -> bool {
    now() - stat.st_ctime as f64 >= SETTLED_SECONDS
}

impl Pidfiles {
    /// The last reading, if the file at `path` is still the one that was read.
    fn get(&self, id: ProcessId, root: &OwnedFd, path: &Path) -> Option<Pidfile> {
        let now = seconds(ClockId::Monotonic);
        let known = self.known.get(&id).filter(|known| known.pidfile.path == path)?;
        let stat = || rustix::fs::fstat(route::find(root, path).ok()?).ok();
        let is_same = now - known.at < REVIEW_SECONDS && identity(&stat()?) == known.identity;
        is_same.then(|| known.pidfile.clone())
    }

    /// Keeps a reading, unless the file has changed a moment ago: it may change again without a sign, because the kernel
    /// counts its times in ticks.
    fn put(&mut self, id: ProcessId, stat: &Stat, pidfile: &Pidfile) {
        if is_settled(stat) {
            let (at, identity) = (seconds(ClockId::Monotonic), identity(stat));
            self.known.insert(id, Reading { at, identity, pidfile: pidfile.clone() });
        } else {
            self.known.remove(&id);
        }
    }
}

/// Reads the pidfiles that are named by `-p`.
///
/// This comes before the configurations: a pidfile may prove that root started a process, and then
/// more of its configuration may be shown.
pub fn read_named_by_arguments(
    procfs: &Path,
    known: &mut Pidfiles,
    found: &mut [Found],
    unreadable: &mut Vec<Unreadable>,
) {
    // Those of processes that have ended are forgotten.
    let living: BTreeSet<ProcessId> = found.iter().map(|found| found.process.id).collect();
    known.known.retain(|id, _| living.contains(id));
    read((procfs, known), found, unreadable, |line, _| line.pidfile.clone(), |_, _| true);
}

/// Reads the pidfiles that only the configuration names.
pub fn read_named_by_configuration(
    procfs: &Path,
    known: &mut Pidfiles,
    found: &mut [Found],
    unreadable: &mut Vec<Unreadable>,
) {
    let name = |line: &CommandLine, process: &Process| {
        let configured = || process.configuration.as_ref()?.declared.globals.pidfile.clone();
        if line.pidfile.is_none() { configured() } else { None }
    };
    // A file that was edited since may name the pidfile of another service.
    let was_given = |process: &Process, pidfile: &Pidfile| {
        process.loaded_globals().is_some()
            || matches!(&pidfile.content, PidfileContent::Pids(pids) if pids.contains(&process.own_pid()))
    };
    read((procfs, known), found, unreadable, name, was_given);
}

fn read(
    (procfs, known): (&Path, &mut Pidfiles),
    found: &mut [Found],
    unreadable: &mut Vec<Unreadable>,
    name: impl Fn(&CommandLine, &Process) -> Option<String>,
    was_given: impl Fn(&Process, &Pidfile) -> bool,
) {
    let pidfiles: Vec<_> = found
        .iter()
        .map(|one| {
            let pidfile = pidfile_of((procfs, known), one, found, &name)?;
            if !was_given(&one.process, &pidfile) {
                return None;
            }
            if pidfile.content == PidfileContent::Unreadable && !has_ended(procfs, one, found) {
                report(&pidfile.path, unreadable);
            }
            Some(pidfile)
        })
        .collect();
    for (found, pidfile) in found.iter_mut().zip(pidfiles) {
        if pidfile.is_some() {
            found.process.pidfile = pidfile;
        }
    }
}

/// The process has ended since it was found, or the one through whose root its files are seen. Then nothing
/// hides its pidfile.
fn has_ended(procfs: &Path, found: &Found, all: &[Found]) -> bool {
    let is_gone = |pid| {
        let root = ProcDir::open(procfs, pid).and_then(|directory| directory.root());
        matches!(root, Err(ReadError::Gone))
    };
    is_gone(found.process.id.pid) || root_view(procfs, found, all).is_some_and(is_gone)
}

fn report(path: &Path, unreadable: &mut Vec<Unreadable>) {
    let subject = path.display().to_string();
    let reason = "the pidfile could not be read; needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, \
                  and an absolute path if HAProxy is chrooted";
    let entry = Unreadable { what: What::Config, subject, reason: reason.to_owned() };
    if !unreadable.iter().any(|known| known.what == entry.what && known.subject == entry.subject) {
        unreadable.push(entry);
    }
}

fn pidfile_of(
    (procfs, known): (&Path, &mut Pidfiles),
    found: &Found,
    all: &[Found],
    name: impl Fn(&CommandLine, &Process) -> Option<String>,
) -> Option<Pidfile> {
    let process = &found.process;
    let line = CommandLine::parse(process.arguments.as_ref()?)?;
    let directory = line.launch_directory(process);
    let named = name(&line, process)?;
    let Some(path) = CommandLine::resolve(directory.as_deref(), &named) else {
        return Some(Pidfile::unread(PathBuf::from(named)));
    };
    let root = root_view(procfs, found, all)
        .and_then(|pid| route::open_root(&procfs.join(pid.to_string()).join("root")).ok());
    let Some(root) = root else { return Some(Pidfile::unread(path)) };
    if let Some(pidfile) = known.get(process.id, &root, &path) {
        return Some(pidfile);
    }
    let mut pidfile = Pidfile::unread(path);
    match route::follow(&root, &pidfile.path) {
        Ok(route) => {
            pidfile.writer = sole_writer(&route.steps, false);
            // Most pidfiles are readable by everyone, which is cheaper to see than who started HAProxy.
            let shown = may_be_shown(Reader::Anyone, &route.steps)
                || may_be_shown(reader_of(found, all), &route.steps);
            if !shown || read_one(&route, &mut pidfile).is_err() {
                pidfile.content = PidfileContent::Unreadable;
            } else if matches!(pidfile.content, PidfileContent::Pids(_)) {
                known.put(process.id, &route.stat, &pidfile);
            }
        }
        Err(dead) => {
            if dead.only_end_missing {
                pidfile.writer = sole_writer(&dead.steps, true);
            }
            let is_gone = matches!(ReadError::from(dead.errno), ReadError::Gone);
            if is_gone && may_be_followed(reader_of(found, all), &dead.steps) {
                pidfile.content = PidfileContent::Missing;
            }
        }
    }
    Some(pidfile)
}

fn read_one(route: &Route, pidfile: &mut Pidfile) -> Result<(), ReadError> {
    let file = File::from(route.open(OFlags::RDONLY)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::Other("not a regular file".to_owned()));
    }
    pidfile.file = Some((metadata.dev(), metadata.ino()));
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    pidfile.modified = modified.map(|at| at.as_secs_f64());
    pidfile.content = pids(&String::from_utf8_lossy(&read_up_to(file, LIMIT_BYTES)?));
    Ok(())
}

fn pids(text: &str) -> PidfileContent {
    let pids: Result<Vec<i32>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    pids.map_or(PidfileContent::Unreadable, PidfileContent::Pids)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::sample::proc::cgroups::CgroupPaths;
    use crate::stage::actor;

    fn found(child: &Child, pidfile: &str) -> Found {
        let procfs = Path::new("/proc");
        let pid = child.id().cast_signed();
        Found {
            process: actor(pid, 1, &format!("haproxy -D -f /a.cfg -p {pidfile}")).process,
            directory: ProcDir::open(procfs, pid).unwrap(),
            cgroups: CgroupPaths::default(),
            uts_namespace: None,
            layout: [None; 5],
        }
    }

    /// What cannot be read of a process that lives, and of one that has ended since it was found.
    #[test]
    fn what_has_ended_hides_nothing() {
        let not_a_file = "/proc/self";
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut living = [found(&child, not_a_file)];
        let mut ended = [found(&child, not_a_file)];
        let look = |found: &mut [Found]| {
            let mut unreadable = Vec::new();
            let known = &mut Pidfiles::default();
            read_named_by_arguments(Path::new("/proc"), known, found, &mut unreadable);
            let content = found[0].process.pidfile.as_ref().unwrap().content.clone();
            (content, unreadable.len())
        };
        assert_eq!(look(&mut living), (PidfileContent::Unreadable, 1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(look(&mut ended), (PidfileContent::Unreadable, 0));
    }

    /// What was read before is used only as long as the file is the same.
    #[test]
    fn a_pidfile_is_read_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut known = Pidfiles::default();
        let look = |known: &mut Pidfiles| {
            let mut found = [found(&child, &file.display().to_string())];
            read_named_by_arguments(Path::new("/proc"), known, &mut found, &mut Vec::new());
            found[0].process.pidfile.take().unwrap()
        };
        std::fs::write(&file, "1\n").unwrap();
        let first = look(&mut known);
        assert_eq!(first.content, PidfileContent::Pids(vec![1]));
        let deadline = now() + 60.0;
        while known.known.is_empty() {
            assert!(now() < deadline && look(&mut known) == first);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(look(&mut known), first, "not read again");
        let other = folder.path().join("other");
        std::fs::write(&other, "3\n").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_eq!(look(&mut known).content, PidfileContent::Pids(vec![3]));
        assert!(known.known.is_empty(), "it may change again in the same moment");
        std::fs::write(&file, "4\n").unwrap();
        assert_eq!(look(&mut known).content, PidfileContent::Pids(vec![4]));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(look(&mut known).content, PidfileContent::Missing);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
