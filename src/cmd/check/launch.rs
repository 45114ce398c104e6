//! How a running HAProxy was started, and so what its configuration means.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::haproxy::command_line::CommandLine;
use crate::haproxy::config::{Launch, Version};
use crate::haproxy::environment;
use crate::model::Process;
use crate::sample::config_files::Base;

/// The environment and switches `process` reads its configuration with.
#[must_use]
pub fn of(procfs: &Path, process: &Process, line: &CommandLine) -> Launch {
    let variables = process.environment.as_ref();
    let version = variables.and_then(environment::version);
    let switches = line.kept.iter().filter_map(|word| word.strip_prefix('-'));
    Launch {
        environment: variables.map(|variables| variables.0.clone()),
        version: version.as_deref().and_then(Version::parse),
        host_name: same_namespace(procfs, process.id.pid, "uts").then(own_host_name).flatten(),
        local_peer: line.local_peer.clone(),
        master_sockets: line.master_socket.iter().cloned().collect(),
        master_worker: line.master_worker,
        daemon: line.daemon,
        switches: switches
            .filter(|switch| switch.starts_with('d') && switch.len() == 2)
            .map(str::to_owned)
            .collect(),
        ..Launch::default()
    }
}

/// As if HAProxy were started here and now.
#[must_use]
pub fn here() -> Launch {
    Launch {
        environment: Some(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        ),
        host_name: own_host_name(),
        ..Launch::default()
    }
}

/// Where the names on its command line lead. `speakers` are processes of the same service, which
/// may see its files where its own root is a jail.
#[must_use]
pub fn base(procfs: &Path, process: &Process, line: &CommandLine, speakers: &[&Process]) -> Base {
    let root = if same_namespace(procfs, process.id.pid, "mnt") && !started_in_a_root(process) {
        PathBuf::from("/")
    } else {
        let sees = |other: &&&Process| {
            other.mount_namespace == process.mount_namespace && !other.in_own_jail()
        };
        let eyes = speakers.iter().find(sees).map_or(process.id.pid, |other| other.id.pid);
        procfs.join(eyes.to_string()).join("root")
    };
    let variable = |name| process.environment.as_ref().and_then(|e| e.get(name));
    let directory = process
        .launch_directory()
        .map(Path::to_owned)
        .or_else(|| {
            let launched = variable("PWD").map_or_else(|| PathBuf::from("/"), PathBuf::from);
            Some(line.directory.as_ref().map_or(launched.clone(), |d| launched.join(d)))
        })
        .unwrap_or_default();
    // A root it was started in is part of what the kernel calls its directory.
    let directory = match process.root.as_deref() {
        Some(own) if started_in_a_root(process) => directory
            .strip_prefix(own)
            .map_or(directory.clone(), |inside| Path::new("/").join(inside)),
        _ => directory,
    };
    Base { root, directory }
}

fn started_in_a_root(process: &Process) -> bool {
    process.root.as_deref().is_some_and(|root| root != Path::new("/")) && !process.in_own_jail()
}

/// A process lives in the same namespace as this one.
#[must_use]
pub fn same_namespace(procfs: &Path, pid: i32, name: &str) -> bool {
    let number = |path: PathBuf| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let theirs = number(procfs.join(pid.to_string()).join("ns").join(name));
    theirs.is_some() && theirs == number(Path::new("/proc/self/ns").join(name))
}

fn own_host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim_end().to_owned())
}
