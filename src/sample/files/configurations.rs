//! The configuration of each HAProxy as it is on disk, read again only when it has changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::allowance::Allowances;
use super::config_files::{self, Base, Collected, Stamp};
use super::host_names::HostNames;
use super::problem::Problem;
use super::reader::{is_started_by_root, reader_of};
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::config::{self, Launch};
use crate::haproxy::digest::digest;
use crate::model::port_index::PortIndex;
use crate::model::{
    Configuration, Environment, Executable, NamespaceId, Process, ProcessId, UnixSeconds,
    Unreadable, What,
};
use crate::sample::discovery::processes::Found;
use crate::sample::discovery::root_view::root_view;
use crate::sample::movers::Movers;
use crate::sample::paths::access::Reader;
use crate::sample::proc::dir::ProcDir;

/// Readings of configurations, by how they are found and what they depend on.
#[derive(Debug, Default)]
pub struct Configurations {
    readings: BTreeMap<u64, Reading>,
    sources: BTreeMap<ProcessId, SourceOf>,
    host_names: HostNames,
}

/// How the reading went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All there is could be read.
    pub success: bool,
    /// Processes that ended meanwhile, perhaps launchers, so that their configuration remains unknown: for
    /// each the user whose service it may belong to.
    pub gone: Vec<Option<u32>>,
}

/// The source of a process, and what that was concluded from.
#[derive(Debug)]
struct SourceOf {
    basis: Basis,
    source: Source,
    /// Equal for all processes whose configuration is one and the same.
    key: u64,
}

/// All that a process's source depends on.
#[derive(Debug, PartialEq)]
struct Basis {
    arguments: Option<Vec<String>>,
    environment: Option<Environment>,
    executable: Option<Executable>,
    root: Option<PathBuf>,
    working_directory: Option<PathBuf>,
    root_view: Option<i32>,
    view: View,
    host_name: Option<String>,
    reader: Reader,
}

/// What it shows: its root, and its mount namespace.
#[derive(Debug, Default, PartialEq, Hash)]
struct View {
    root: Option<PathBuf>,
    mounts: Option<NamespaceId>,
}

#[derive(Debug)]
struct Reading {
    stamps: Vec<Stamp>,
    configuration: Arc<Configuration>,
    unreadable: Vec<Unreadable>,
}

/// Where a process's configuration is, and what decides its meaning.
#[derive(Debug, Clone)]
pub struct Source {
    /// Files and directories, in order.
    pub names: Vec<PathBuf>,
    /// Where those names lead.
    pub base: Base,
    /// What it was started with.
    pub launch: Launch,
}

impl Configurations {
    /// Gives every living process its configuration.
    pub fn read(
        &mut self,
        procfs: &Path,
        found: &mut [Found],
        unreadable: &mut Vec<Unreadable>,
    ) -> Outcome {
        self.host_names.retain_those_of(found);
        let hidden = self.find_sources(procfs, found);
        let movers = Movers::of(found.iter().map(|found| &found.process));
        let mut gone = Vec::new();
        let mut kept: BTreeMap<u64, Reading> = BTreeMap::new();
        let mut allowances = Allowances::default();
        let mut left_out = Vec::new();
        for found in found.iter_mut() {
            let Some(SourceOf { source, key, .. }) = self.sources.get(&found.process.id) else {
                continue;
            };
            let reading = match kept.entry(*key) {
                Entry::Occupied(reading) => reading.into_mut(),
                Entry::Vacant(slot) => {
                    let old = self.readings.remove(slot.key());
                    let Some(reading) = renew(old, source, &mut allowances) else {
                        left_out.push(source.over_allowance());
                        continue;
                    };
                    // The files were looked for through a process that has ended meanwhile.
                    if !reading.unreadable.is_empty() && source.is_gone() {
                        gone.push(movers.user(&found.process));
                        continue;
                    }
                    slot.insert(reading)
                }
            };
            found.process.configuration = Some(Arc::clone(&reading.configuration));
        }
        self.readings = kept;
        let problems = self.readings.values().flat_map(|reading| reading.unreadable.clone());
        let before = unreadable.len();
        unreadable.extend(problems.chain(hidden).chain(left_out));
        Outcome { success: unreadable.len() == before, gone }
    }

    /// The source of a process of the last sample.
    #[must_use]
    pub fn source(&self, id: ProcessId) -> Option<&Source> {
        self.sources.get(&id).map(|known| &known.source)
    }

    /// Finds each process's source; returns the reasons why some are hidden.
    fn find_sources(&mut self, procfs: &Path, found: &[Found]) -> Vec<Unreadable> {
        let mut before = std::mem::take(&mut self.sources);
        let mut hidden: Vec<Unreadable> = Vec::new();
        for one in found {
            let id = one.process.id;
            let basis = Basis::of(procfs, one, found, &mut self.host_names, before.get(&id));
            if let Some(known) = before.remove(&id).filter(|known| known.basis == basis) {
                self.sources.insert(id, SourceOf { basis, ..known });
                continue;
            }
            match source(procfs, &one.process, &basis) {
                Ok(Some(source)) => {
                    let key = source.key(&basis.view);
                    self.sources.insert(id, SourceOf { basis, source, key });
                }
                Err(entry) if !hidden.contains(&entry) => hidden.push(entry),
                Ok(None) | Err(_) => {}
            }
        }
        hidden
    }
}

impl Basis {
    fn of(
        procfs: &Path,
        found: &Found,
        all: &[Found],
        host_names: &mut HostNames,
        before: Option<&SourceOf>,
    ) -> Basis {
        let process = &found.process;
        let root_view = root_view(procfs, found, all);
        let reader = match before.map(|known| &known.basis.reader) {
            // It was proved once that root started it.
            Some(Reader::Root) => Reader::Root,
            // The proof may come later: a daemon writes its pidfile after it has forked.
            Some(reader) if !is_started_by_root(found, all) => reader.clone(),
            _ => reader_of(found, all),
        };
        Basis {
            arguments: process.arguments.clone(),
            environment: process.environment.clone(),
            executable: process.executable.clone(),
            root: process.root.clone(),
            working_directory: process.working_directory.clone(),
            root_view,
            view: root_view.map(|pid| View::through(procfs, pid, all)).unwrap_or_default(),
            host_name: host_names.of(procfs, found),
            reader,
        }
    }
}

impl View {
    /// What was read of an HAProxy already is not read again.
    fn through(procfs: &Path, pid: i32, all: &[Found]) -> View {
        if let Some(known) = all.iter().find(|found| found.process.id.pid == pid) {
            let process = &known.process;
            return View { root: process.root.clone(), mounts: process.mount_namespace };
        }
        let Ok(directory) = ProcDir::open(procfs, pid) else { return View::default() };
        View { root: directory.link("root").ok(), mounts: directory.namespace("mnt").ok() }
    }
}

/// The old reading if nothing has changed since, else a new one; `None` if its user's allowance is used up.
fn renew(old: Option<Reading>, source: &Source, allowances: &mut Allowances) -> Option<Reading> {
    let reader = source.base.reader.as_ref().unwrap_or(&Reader::Root);
    let is_current = |old: &Reading| {
        old.unreadable.is_empty() && old.stamps == config_files::stamps(&source.names, &source.base)
    };
    let is_kept = old.as_ref().is_some_and(is_current);
    if is_kept {
        return old.filter(|old| allowances.keep(reader, old.bytes()));
    }
    allowances.spend(reader, |most_bytes| {
        let reading = read(source, most_bytes);
        let bytes = reading.bytes();
        (reading, bytes)
    })
}

fn unreadable(source: &Source, problem: &Problem) -> Unreadable {
    let names: Vec<_> = source.names.iter().map(|name| name.display().to_string()).collect();
    Unreadable { what: What::Config, subject: names.join(" "), reason: problem.to_string() }
}

impl Reading {
    fn bytes(&self) -> u64 {
        self.stamps.iter().map(|stamp| stamp.size).sum()
    }
}

fn read(source: &Source, most_bytes: u64) -> Reading {
    let collected = config_files::collect_up_to(most_bytes, &source.names, &source.base);
    let declared = config::read(&collected.files, &source.launch);
    let problems = collected.problems.iter();
    let unread = collected.problems.first().map(ToString::to_string);
    Reading {
        unreadable: problems.map(|problem| unreadable(source, problem)).collect(),
        configuration: Arc::new(Configuration {
            complete: unread.is_none() && declared.errors.is_empty(),
            unread,
            ports: PortIndex::of(&declared),
            declared,
            fingerprint: fingerprint(&collected),
            digest: collected.problems.is_empty().then(|| digest(&collected.files)),
            modified: newest(&collected.stamps, |stamp| stamp.modified),
            changed: newest(&collected.stamps, |stamp| stamp.changed),
        }),
        stamps: collected.stamps,
    }
}

/// The files of its configuration; `None` if it names none, or may not be looked at, which is reported
/// elsewhere. The error is that the place of its files is hidden.
fn source(procfs: &Path, process: &Process, basis: &Basis) -> Result<Option<Source>, Unreadable> {
    let line = process.arguments.as_ref().and_then(|arguments| CommandLine::parse(arguments));
    let Some(line) = line.filter(|line| !line.files.is_empty() && process.root.is_some()) else {
        return Ok(None);
    };
    let hidden = |reason: &str| Unreadable {
        what: What::Config,
        subject: line.files.join(" "),
        reason: reason.to_owned(),
    };
    let pid = basis
        .root_view
        .ok_or_else(|| hidden("a chroot hides the files, and no process near it sees them"))?;
    let names: Vec<PathBuf> = line.files.iter().map(PathBuf::from).collect();
    let absolute = names.iter().all(|name| name.is_absolute());
    let directory = line
        .launch_directory(process)
        .or_else(|| absolute.then(|| PathBuf::from("/")))
        .ok_or_else(|| {
            hidden(
                "a chroot hides the directory it was started in; needs an absolute path after -f \
                 or -C",
            )
        })?;
    let root = procfs.join(pid.to_string()).join("root");
    let launch = Launch::of(process, &line, basis.host_name.clone());
    let reader = Some(basis.reader.clone());
    Ok(Some(Source { names, base: Base { root, directory, reader }, launch }))
}

impl Source {
    /// Its configuration may not be read in this sample.
    fn over_allowance(&self) -> Unreadable {
        let path = self.names.first().cloned().unwrap_or_default();
        unreadable(self, &Problem::OverAllowance { path })
    }

    /// The process through which the files are seen has ended.
    fn is_gone(&self) -> bool {
        let root = std::fs::read_link(&self.base.root);
        root.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// The process whose root is used may be another process each time; the mount namespace identifies what
    /// it shows.
    fn key(&self, view: &View) -> u64 {
        let mut hasher = DefaultHasher::new();
        let launch = &self.launch;
        self.names.hash(&mut hasher);
        self.base.directory.hash(&mut hasher);
        self.base.reader.hash(&mut hasher);
        view.hash(&mut hasher);
        launch.environment.hash(&mut hasher);
        (&launch.local_peer, &launch.master_sockets, &launch.host_name).hash(&mut hasher);
        (&launch.switches, launch.master_worker).hash(&mut hasher);
        launch.version.as_ref().map(ToString::to_string).hash(&mut hasher);
        hasher.finish()
    }
}

fn fingerprint(collected: &Collected) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in &collected.files {
        (&file.path, &file.text).hash(&mut hasher);
    }
    hasher.finish()
}

#[allow(clippy::cast_precision_loss)] // seconds of this era fit
fn newest(stamps: &[Stamp], time: impl Fn(&Stamp) -> (i64, i64)) -> UnixSeconds {
    let newest = stamps.iter().map(time).max().unwrap_or_default();
    newest.0 as f64 + newest.1 as f64 / 1e9
}
