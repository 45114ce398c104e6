//! Sends one signal to one process, and to no other.
//!
//! A pid may name another process at any moment; a pidfd cannot. The pidfd is opened first, and only then is
//! the process behind the pid compared with the one that was meant. If the pid was reused before that, the
//! comparison fails; if it is reused later, the signal reaches no process.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::model::{Executable, ProcessId};
use crate::policy::reap::StopSignal;
use crate::sample::proc::dir::ProcDir;

/// A process that a signal can be sent to.
#[derive(Debug)]
pub struct Handle {
    pidfd: OwnedFd,
    pid: Pid,
}

impl Handle {
    /// Opens the process; `None` if it is gone, or the pid names another process, or another program.
    #[must_use]
    pub fn open(procfs: &Path, id: ProcessId, executable: &Path) -> Option<Handle> {
        let pid = Pid::from_raw(id.pid)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let directory = ProcDir::of(procfs, id).ok()?;
        let program = directory.link("exe").ok()?;
        (Executable::path_of_link(&program) == executable).then_some(Handle { pidfd, pid })
    }

    /// Whether this process may signal it (kill(2) with signal 0).
    #[must_use]
    pub fn may_signal(&self) -> bool {
        rustix::process::test_kill_process(self.pid) != Err(Errno::PERM)
    }

    /// Sends the signal.
    pub fn send(&self, signal: StopSignal) -> Result<(), Errno> {
        let signal = match signal {
            StopSignal::Usr1 => Signal::USR1,
            StopSignal::Term => Signal::TERM,
            StopSignal::Kill => Signal::KILL,
        };
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
    }
}

/// Whether the file that switches `reap` off is there. Anything but "there is no such file" is off.
#[must_use]
pub fn is_off(off_file: &Path) -> bool {
    !matches!(rustix::fs::lstat(off_file), Err(Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::{Child, Command};

    /// A program that sleeps, once it has executed: until then it is a copy of this test.
    fn sleeper() -> (Child, ProcessId, PathBuf) {
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let directory = ProcDir::open(Path::new("/proc"), pid).unwrap();
        let own = std::env::current_exe().unwrap();
        while directory.link("exe").unwrap() == own {
            std::thread::yield_now();
        }
        let (stat, program) = (directory.stat().unwrap(), directory.link("exe").unwrap());
        (child, ProcessId { start_ticks: stat.starttime, pid }, program)
    }

    #[test]
    fn only_the_process_that_was_meant_is_opened() {
        let (mut child, id, program) = sleeper();
        let procfs = Path::new("/proc");
        assert!(Handle::open(procfs, id, &program).is_some());
        let earlier = ProcessId { start_ticks: id.start_ticks - 1, ..id };
        assert!(Handle::open(procfs, earlier, &program).is_none(), "its pid was another's");
        assert!(Handle::open(procfs, id, Path::new("/bin/haproxy")).is_none());
        let handle = Handle::open(procfs, id, &program).unwrap();
        handle.send(StopSignal::Term).unwrap();
        child.wait().unwrap();
        assert_eq!(handle.send(StopSignal::Term), Err(Errno::SRCH), "it has ended");
        assert!(Handle::open(procfs, id, &program).is_none());
    }

    #[test]
    fn the_switch_is_off_unless_it_is_surely_absent() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("etc");
        assert!(!is_off(&place.join("off")), "no such directory");
        std::fs::create_dir(&place).unwrap();
        assert!(!is_off(&place.join("off")));
        std::os::unix::fs::symlink("nowhere", place.join("off")).unwrap();
        assert!(is_off(&place.join("off")), "a link that leads nowhere");
        std::fs::write(place.join("file"), "").unwrap();
        assert!(is_off(&place.join("file/off")), "not a directory");
    }
}
