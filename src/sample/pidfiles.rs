//! Reads the pidfiles that command lines name, each through a process that sees it.

use std::path::{Path, PathBuf};

use super::proc_dir::{ProcDir, ReadError};
use super::processes::Found;
use crate::haproxy::command_line::CommandLine;
use crate::model::{Pidfile, PidfileContent, Unreadable, What};

/// A pidfile holds a few numbers; what is larger is none.
const LIMIT_BYTES: u64 = 64 * 1024;

/// Reads the pidfile of every process that names one.
pub fn read(procfs: &Path, found: &mut [Found], unreadable: &mut Vec<Unreadable>) {
    let pidfiles: Vec<_> = found.iter().map(|f| pidfile_of(procfs, f, found)).collect();
    for (found, pidfile) in found.iter_mut().zip(pidfiles) {
        if let Some(Pidfile { path, content: PidfileContent::Unreadable }) = &pidfile {
            let subject = path.display().to_string();
            let same = |entry: &Unreadable| entry.what == What::Config && entry.subject == subject;
            if !unreadable.iter().any(same) {
                let reason = "the pidfile could not be read; needs CAP_SYS_PTRACE and \
                              CAP_DAC_READ_SEARCH, and an absolute path if HAProxy is chrooted";
                unreadable.push(Unreadable {
                    what: What::Config,
                    subject,
                    reason: reason.to_owned(),
                });
            }
        }
        found.process.pidfile = pidfile;
    }
}

fn pidfile_of(procfs: &Path, found: &Found, all: &[Found]) -> Option<Pidfile> {
    let line = CommandLine::parse(found.process.arguments.as_ref()?)?;
    let named = line.pidfile?;
    let Some(path) = CommandLine::resolve(found.process.launch_directory(), &named) else {
        return Some(Pidfile { path: PathBuf::from(named), content: PidfileContent::Unreadable });
    };
    let content = match file_beside(procfs, found, all, &path) {
        Ok(bytes) => pids(&String::from_utf8_lossy(&bytes)),
        Err(ReadError::Gone) => PidfileContent::Missing,
        Err(_) => PidfileContent::Unreadable,
    };
    Some(Pidfile { path, content })
}

fn pids(text: &str) -> PidfileContent {
    let pids: Result<Vec<i32>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    pids.map_or(PidfileContent::Unreadable, PidfileContent::Pids)
}

/// Reads `path` as `found` saw it when it was started.
fn file_beside(
    procfs: &Path,
    found: &Found,
    all: &[Found],
    path: &Path,
) -> Result<Vec<u8>, ReadError> {
    let process = &found.process;
    if !process.in_own_jail() {
        return found.directory.file_in_root(path, LIMIT_BYTES);
    }
    let sees = |other: &&Found| {
        other.process.mount_namespace == process.mount_namespace && !other.process.in_own_jail()
    };
    if let Some(other) = all.iter().find(sees) {
        return other.directory.file_in_root(path, LIMIT_BYTES);
    }
    let own = std::process::id().cast_signed();
    for pid in [process.parent, own, 1] {
        let Ok(directory) = ProcDir::open(procfs, pid) else { continue };
        if directory.namespace("mnt").ok() == process.mount_namespace {
            return directory.file_in_root(path, LIMIT_BYTES);
        }
    }
    Err(ReadError::Denied)
}
