//! Reads the pidfiles that command lines name, each through a process that sees it.

use std::path::{Path, PathBuf};

use crate::haproxy::command_line::CommandLine;
use crate::model::{Pidfile, PidfileContent, Unreadable, What};
use crate::sample::discovery::processes::Found;
use crate::sample::discovery::root_view::root_view;
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

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

/// `-p`, else what the configuration says.
fn pidfile_of(procfs: &Path, found: &Found, all: &[Found]) -> Option<Pidfile> {
    let process = &found.process;
    let line = CommandLine::parse(process.arguments.as_ref()?)?;
    let configured = || process.configuration.as_ref()?.declared.globals.pidfile.clone();
    let directory = line.launch_directory(process);
    let named = line.pidfile.or_else(configured)?;
    let Some(path) = CommandLine::resolve(directory.as_deref(), &named) else {
        return Some(Pidfile { path: PathBuf::from(named), content: PidfileContent::Unreadable });
    };
    let viewer = root_view(procfs, found, all).ok_or(ReadError::Denied);
    let directory = viewer.and_then(|pid| ProcDir::open(procfs, pid));
    let content = match directory.and_then(|dir| dir.file_in_root(&path, LIMIT_BYTES)) {
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
