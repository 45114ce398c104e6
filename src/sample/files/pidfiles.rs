//! Reads the pidfiles that command lines name, each through a process that sees it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::writers::sole_writer;
use crate::haproxy::command_line::CommandLine;
use crate::model::{Pidfile, PidfileContent, Unreadable, What};
use crate::sample::discovery::processes::Found;
use crate::sample::discovery::root_view::root_view;
use crate::sample::proc::dir::{ProcDir, read_up_to};
use crate::sample::proc::error::ReadError;

/// A pidfile holds a few numbers; what is larger is none.
const LIMIT_BYTES: u64 = 64 * 1024;

/// Reads the pidfile of every process that names one.
pub fn read(procfs: &Path, found: &mut [Found], unreadable: &mut Vec<Unreadable>) {
    let pidfiles: Vec<_> = found.iter().map(|f| pidfile_of(procfs, f, found)).collect();
    for (found, pidfile) in found.iter_mut().zip(pidfiles) {
        if let Some(Pidfile { path, content: PidfileContent::Unreadable, .. }) = &pidfile {
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
        return Some(Pidfile::unread(PathBuf::from(named)));
    };
    let viewer = root_view(procfs, found, all).ok_or(ReadError::Denied);
    let directory = viewer.and_then(|pid| ProcDir::open(procfs, pid));
    let mut pidfile = Pidfile::unread(path);
    let Ok(directory) = directory else { return Some(pidfile) };
    match read_one(&directory, &mut pidfile) {
        Ok(()) => {}
        Err(ReadError::Gone) => pidfile.content = PidfileContent::Missing,
        Err(_) => pidfile.content = PidfileContent::Unreadable,
    }
    // What root runs needs no pidfile as a proof.
    if process.users.is_none_or(|users| users.real != 0) {
        pidfile.writer = directory.root().ok().and_then(|root| sole_writer(root, &pidfile.path));
    }
    Some(pidfile)
}

fn read_one(directory: &ProcDir, pidfile: &mut Pidfile) -> Result<(), ReadError> {
    let file = directory.open_in_root(&pidfile.path)?;
    let metadata = file.metadata()?;
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
