//! How a running HAProxy was started, and so what its configuration means.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::haproxy::command_line::CommandLine;
use crate::haproxy::config::Launch;
use crate::model::Process;
use crate::sample::config_files::Base;

/// The environment and switches `process` reads its configuration with.
#[must_use]
pub fn of(procfs: &Path, process: &Process, line: &CommandLine) -> Launch {
    let here = same_namespace(procfs, process.id.pid, "uts");
    Launch::of(process, line, here.then(own_host_name).flatten())
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
        .or_else(|| {
            let launched = variable("PWD").map_or_else(|| PathBuf::from("/"), PathBuf::from);
            Some(line.directory.as_ref().map_or(launched.clone(), |d| launched.join(d)))
        })
        .unwrap_or_default();
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
