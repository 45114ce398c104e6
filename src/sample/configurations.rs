//! The configuration of each HAProxy as it is on disk, read again only when it has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config_files::{self, Base, Collected, Stamp};
use super::doorway::{doorway, own_pid};
use super::proc_dir::ProcDir;
use super::processes::Found;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::config::{self, Launch};
use crate::model::declared::PortIndex;
use crate::model::{Configuration, UnixSeconds, Unreadable, What};

/// Readings of configurations, by how they are found and what they depend on.
#[derive(Debug, Default)]
pub struct Configurations {
    readings: BTreeMap<u64, Reading>,
}

#[derive(Debug)]
struct Reading {
    stamps: Vec<Stamp>,
    configuration: Arc<Configuration>,
    unreadable: Vec<Unreadable>,
}

/// Where a process's configuration is, and how it is to be understood.
struct Source {
    names: Vec<PathBuf>,
    base: Base,
    launch: Launch,
}

impl Configurations {
    /// Gives every living process its configuration. `false`: some could not be read.
    pub fn read(
        &mut self,
        procfs: &Path,
        found: &mut [Found],
        unreadable: &mut Vec<Unreadable>,
    ) -> bool {
        let sources: Vec<_> = found.iter().map(|f| source(procfs, f, found)).collect();
        let mut kept = BTreeMap::new();
        for (found, source) in found.iter_mut().zip(sources) {
            let Some(source) = source else { continue };
            let key = source.key();
            if let std::collections::btree_map::Entry::Vacant(slot) = kept.entry(key) {
                slot.insert(renew(self.readings.remove(&key), &source));
            }
            let Some(reading) = kept.get(&key) else { continue };
            found.process.configuration = Some(Arc::clone(&reading.configuration));
        }
        self.readings = kept;
        let problems = self.readings.values().flat_map(|reading| reading.unreadable.clone());
        let before = unreadable.len();
        unreadable.extend(problems);
        unreadable.len() == before
    }
}

/// The old reading, if nothing has changed since.
fn renew(old: Option<Reading>, source: &Source) -> Reading {
    if let Some(old) = old
        && old.unreadable.is_empty()
        && old.stamps == config_files::stamps(&source.names, &source.base)
    {
        return old;
    }
    let collected = config_files::collect(&source.names, &source.base);
    let declared = config::read(&collected.files, &source.launch);
    let unreadable = collected.problems.iter().map(|problem| Unreadable {
        what: What::Config,
        subject: source.names.iter().map(|n| n.display().to_string()).collect::<Vec<_>>().join(" "),
        reason: problem.to_string(),
    });
    Reading {
        unreadable: unreadable.collect(),
        configuration: Arc::new(Configuration {
            complete: collected.problems.is_empty() && declared.errors.is_empty(),
            ports: PortIndex::of(&declared),
            declared,
            fingerprint: fingerprint(&collected),
            modified: modified(&collected.stamps),
        }),
        stamps: collected.stamps,
    }
}

/// `None`: it names no files, or nothing is known of where they are.
fn source(procfs: &Path, found: &Found, all: &[Found]) -> Option<Source> {
    let process = &found.process;
    let line = CommandLine::parse(process.arguments.as_ref()?)?;
    if line.files.is_empty() || process.root.is_none() {
        return None;
    }
    let door = doorway(procfs, found, all)?;
    let names: Vec<PathBuf> = line.files.iter().map(PathBuf::from).collect();
    let absolute = names.iter().all(|name| name.is_absolute());
    let directory = match process.launch_directory() {
        Some(directory) => directory,
        None if absolute => PathBuf::from("/"),
        None => PathBuf::from(line.directory.as_ref().filter(|d| d.starts_with('/'))?),
    };
    let root = procfs.join(door.to_string()).join("root");
    let launch = Launch::of(process, &line, host_name(procfs, found));
    Some(Source { names, base: Base { root, directory }, launch })
}

/// The host's name, if the process lives in the exporter's UTS namespace.
fn host_name(procfs: &Path, found: &Found) -> Option<String> {
    let own = ProcDir::open(procfs, own_pid(procfs)?).ok()?.namespace("uts").ok()?;
    let same = found.directory.namespace("uts").ok()? == own;
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    same.then_some(name)
}

impl Source {
    /// The door may be another process each time; what it shows is told by the mount namespace.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let launch = &self.launch;
        self.names.hash(&mut hasher);
        self.base.directory.hash(&mut hasher);
        std::fs::read_link(&self.base.root).ok().hash(&mut hasher);
        let namespace = self.base.root.parent().map(|process| process.join("ns/mnt"));
        namespace.and_then(|link| std::fs::read_link(link).ok()).hash(&mut hasher);
        launch.environment.hash(&mut hasher);
        (&launch.local_peer, &launch.master_sockets, &launch.host_name).hash(&mut hasher);
        (&launch.switches, launch.master_worker, launch.daemon).hash(&mut hasher);
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
fn modified(stamps: &[Stamp]) -> UnixSeconds {
    let newest = stamps.iter().map(|stamp| stamp.modified).max().unwrap_or_default();
    newest.0 as f64 + newest.1 as f64 / 1e9
}
