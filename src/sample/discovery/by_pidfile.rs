//! Processes that the operator's pidfiles name: they are HAProxys under any program name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Mode, OFlags};

use crate::haproxy::command_line::CommandLine;
use crate::model::UnixSeconds;
use crate::model::time::may_be_after;
use crate::sample::paths::route;
use crate::sample::paths::writers::sole_writer;

/// A pidfile holds a few numbers.
const LIMIT_BYTES: u64 = 4096;

/// The processes named by pidfiles that root alone can write, and the programs that they run.
#[derive(Debug, Default)]
pub struct NamedByPidfile {
    /// When the pidfile was written, by the pid that it names.
    pids: BTreeMap<i32, UnixSeconds>,
    programs: BTreeSet<PathBuf>,
}

impl NamedByPidfile {
    /// Reads the pidfiles again.
    pub fn refresh(&mut self, pidfiles: &[PathBuf]) {
        self.pids = pidfiles.iter().filter_map(|path| read(path)).flatten().collect();
        if self.pids.is_empty() {
            self.programs.clear();
        }
    }

    /// The named pids.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.pids.keys().copied()
    }

    /// Nothing is known that could make this process an HAProxy.
    #[must_use]
    pub fn rules_out(&self, pid: i32, program: Option<&Path>) -> bool {
        let runs_one = program.is_some_and(|program| self.programs.contains(program));
        !self.pids.contains_key(&pid) && !runs_one
    }

    /// Whether a process counts as HAProxy. Either a pidfile that was written after its start names it, so
    /// the pid has not been reused since; or it runs the program of such a process, with arguments with
    /// which an HAProxy serves.
    pub fn accepts(
        &mut self,
        pid: i32,
        started: UnixSeconds,
        program: Option<&Path>,
        arguments: &[String],
    ) -> bool {
        if self.pids.get(&pid).is_some_and(|&written| may_be_after(written, started)) {
            self.programs.extend(program.map(Path::to_owned));
            return true;
        }
        let runs_one = program.is_some_and(|program| self.programs.contains(program));
        runs_one && CommandLine::parse(arguments).is_some_and(|line| !line.only_answers)
    }
}

fn read(path: &Path) -> Option<Vec<(i32, UnixSeconds)>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).ok()?;
    let route = route::follow(&root, path).ok()?;
    if sole_writer(&route.steps, false) != Some(0) {
        return None;
    }
    let file = File::from(route.open(OFlags::RDONLY).ok()?);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let written = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let mut text = String::new();
    file.take(LIMIT_BYTES).read_to_string(&mut text).ok()?;
    let pids = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
    Some(pids.map(|pid| (pid, written)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pidfile_names_is_meant_unless_it_is_younger() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (b, sh) = (Path::new("/opt/haproxy_b"), Path::new("/bin/sh"));
        let mut named = NamedByPidfile { pids: [(10, 500.0)].into(), ..NamedByPidfile::default() };
        assert!(named.rules_out(11, Some(b)));
        assert!(!named.rules_out(10, None));
        assert!(!named.accepts(10, 600.0, Some(b), &words("b -f a")), "it got the pid since");
        assert!(!named.accepts(11, 400.0, Some(b), &words("b -f a")), "nothing names it");
        assert!(named.accepts(10, 400.0, Some(b), &words("b -f a")));
        assert!(named.accepts(11, 600.0, Some(b), &words("b -f a")), "a worker");
        assert!(!named.accepts(12, 600.0, Some(b), &words("b -c -f a")));
        assert!(!named.accepts(13, 600.0, Some(sh), &words("sh -f a")));
    }

    #[test]
    fn a_pidfile_that_others_can_write_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pidfile");
        std::fs::write(&path, "4711\n").unwrap();
        let pids = |path: &Path| -> Vec<i32> {
            let mut named = NamedByPidfile::default();
            named.refresh(&[path.to_owned()]);
            named.pids().collect()
        };
        assert_eq!(pids(&path), [4711]);
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        assert_eq!(pids(&path), [0; 0]);
    }
}
