//! Runs HAProxy's own executable for `check`, which asks it for its version and lets it judge a
//! configuration.
//!
//! What was opened is what runs: the file is executed by its descriptor, so nothing that takes its place
//! in the meantime is. It runs in a session of its own without a terminal, with no descriptor of this
//! process but its pipes, with the variables it is given and no others, and it is killed with its whole
//! process group when its time is over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{CommandWrap, ProcessSession};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, prlimit};

use crate::sample::paths::route;
use crate::sample::paths::writers::are_only_of;

/// The number of bytes of its output that are kept; the rest is read and thrown away.
const MOST_OUTPUT: usize = 256 * 1024;

/// How long its pipes may stay open once it has ended: a child that it left behind may hold them.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The first bytes of a program; a script begins with others.
const ELF: [u8; 4] = *b"\x7fELF";

/// Why an executable is not run.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be opened.
    #[error("{}: {error}", path.display())]
    Unopened {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It lies on procfs, sysfs or FUSE.
    #[error("{} lies on procfs, sysfs or FUSE; name the file itself", path.display())]
    Refused {
        /// Its path.
        path: PathBuf,
    },
    /// It is a directory, a device or the like.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// It is a script or a text.
    #[error("{} is not a program; name HAProxy's own executable, not a script that starts it", path.display())]
    NotAProgram {
        /// Its path.
        path: PathBuf,
    },
    /// Another user could have put it there.
    #[error("another user can change {} or a directory above it", path.display())]
    Untrusted {
        /// Its path.
        path: PathBuf,
    },
}

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("{} cannot be run: {error}", path.display())]
    NotStarted {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("it did not end within {}; give it more time with --timeout", humantime::format_duration(*allowed))]
    TimedOut {
        /// The time that it was given.
        allowed: Duration,
    },
}

/// An executable that has been opened.
#[derive(Debug)]
pub struct Executable {
    path: PathBuf,
    file: OwnedFd,
}

/// What to run it with.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// The directory that it starts in.
    pub directory: PathBuf,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
}

/// How it ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed on standard error and then on standard output, as far as it was kept.
    pub output: String,
}

impl Executable {
    /// Opens the executable that the caller has named.
    pub fn named(path: &Path) -> Result<Executable, Unusable> {
        Executable::open(path, |_| true)
    }

    /// Opens an executable that only root and `caller` can have put there: it and every directory and
    /// link on the way is theirs, and writable by no one else.
    pub fn trusted(path: &Path, caller: u32) -> Result<Executable, Unusable> {
        Executable::open(path, |steps| are_only_of(steps, false, caller))
    }

    fn open(
        path: &Path,
        is_trusted: impl Fn(&[route::Step]) -> bool,
    ) -> Result<Executable, Unusable> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let unopened =
            |error: Errno| Unusable::Unopened { path: path.clone(), error: io::Error::from(error) };
        let root = route::open_root(Path::new("/")).map_err(unopened)?;
        let route = route::follow(&root, &path).map_err(|dead| match dead.errno {
            Errno::XDEV => Unusable::Refused { path: path.clone() },
            errno => unopened(errno),
        })?;
        if FileType::from_raw_mode(route.stat.st_mode) != FileType::RegularFile {
            return Err(Unusable::NotAFile { path });
        }
        if !is_trusted(&route.steps) {
            return Err(Unusable::Untrusted { path });
        }
        let file = route.open(OFlags::RDONLY).map_err(unopened)?;
        let mut start = [0; ELF.len()];
        let read = rustix::io::pread(&file, &mut start, 0).map_err(unopened)?;
        if read < ELF.len() || start != ELF {
            return Err(Unusable::NotAProgram { path });
        }
        Ok(Executable { path, file })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it and waits until it has ended, for as long as `allowed`.
    pub fn run(&self, job: &Job, allowed: Duration) -> Result<Outcome, RunError> {
        let deadline = Instant::now() + allowed;
        let not_started = |error| RunError::NotStarted { path: self.path.clone(), error };
        // What this process was itself started with may be open for its children too.
        close_fds::set_fds_cloexec_threadsafe(3, &[]);
        let mut command =
            CommandWrap::with_new(format!("/proc/self/fd/{}", self.file.as_raw_fd()), |command| {
                command.arg0(&self.path).args(&job.arguments).env_clear().envs(&job.environment);
                command.current_dir(&job.directory).stdin(Stdio::null());
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            });
        let mut child = command.wrap(ProcessSession).spawn().map_err(not_started)?;
        let errors = child.stderr().take().map(keep);
        let answers = child.stdout().take().map(keep);
        let _ = limit_cpu(child.id(), allowed);
        if !has_ended(child.id(), deadline).map_err(not_started)? {
            let _ = child.kill();
            return Err(RunError::TimedOut { allowed });
        }
        let status = child.inner_mut().wait().map_err(not_started)?;
        // Ends what is left of the process group, so that nothing of it stays behind.
        let _ = child.start_kill();
        let mut output = String::new();
        for kept in [errors, answers].into_iter().flatten() {
            let bytes = kept.recv_timeout(LAST_WORDS).unwrap_or_default();
            output.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(Outcome { code: status.code(), signal: status.signal(), output })
    }
}

/// Limits the processor time of a process. If this one is killed, a child that loops must still end.
fn limit_cpu(pid: u32, allowed: Duration) -> io::Result<()> {
    let seconds = Some(allowed.as_secs().saturating_add(1));
    prlimit(Some(process(pid)?), Resource::Cpu, Rlimit { current: seconds, maximum: seconds })?;
    Ok(())
}

fn process(pid: u32) -> io::Result<Pid> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(pid.ok_or(io::ErrorKind::NotFound)?)
}

/// Waits until a process has ended or the time is over.
fn has_ended(pid: u32, deadline: Instant) -> io::Result<bool> {
    let process = pidfd_open(process(pid)?, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut watched, Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a pipe to its end on a thread of its own, so that a full pipe never stops the process.
fn keep(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = pipe.by_ref().take(MOST_OUTPUT as u64).read_to_end(&mut kept);
        let _ = io::copy(&mut pipe, &mut io::sink());
        // The receiver is gone when the time was over.
        let _ = sender.send(kept);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    const LONG: Duration = Duration::from_secs(60);

    /// Copies a program by a process of its own: a child that another test is just forking would have a
    /// file open for writing, and the kernel executes no such file.
    fn copy(from: &str, to: &Path) {
        let from = fs::canonicalize(from).unwrap();
        assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
    }

    fn job(arguments: &[&str]) -> Job {
        Job {
            arguments: arguments.iter().map(OsString::from).collect(),
            directory: PathBuf::from("/"),
            environment: [("KEPT".to_owned(), "1".to_owned())].into(),
        }
    }

    fn sh(script: &str, allowed: Duration) -> Result<Outcome, RunError> {
        let shell = fs::canonicalize("/bin/sh").unwrap();
        Executable::trusted(&shell, 0).unwrap().run(&job(&["-c", script]), allowed)
    }

    #[test]
    fn it_runs_alone() {
        let script = "echo $KEPT; echo \"[$HOME$CARGO]\"; ls /proc/self/fd | tr '\\n' ' '; \
            test -t 0 || echo blind; set -- $(cat /proc/$$/stat); test $6 = $$ && echo leader; pwd; \
            echo no >&2; exit 3";
        let outcome = sh(script, LONG).unwrap();
        assert_eq!(outcome.output, "no\n1\n[]\n0 1 2 3 blind\nleader\n/\n", "3: ls itself");
        assert_eq!((outcome.code, outcome.signal), (Some(3), None));
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let scratch = tempfile::tempdir().unwrap();
        let pidfile = scratch.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait", pidfile.display());
        let error = sh(&script, Duration::from_millis(500)).unwrap_err();
        assert!(error.to_string().contains("did not end within 500ms"), "{error}");
        let child = fs::read_to_string(&pidfile).unwrap();
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            stat.map_or(true, |stat| stat.contains(") Z"))
        };
        let deadline = Instant::now() + LONG;
        while !gone() {
            assert!(Instant::now() < deadline, "{child} still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_prints_without_end_is_read_and_thrown_away() {
        let outcome = sh("head -c 1000000000 /dev/zero; exit 1", LONG).unwrap();
        assert_eq!((outcome.output.len(), outcome.code), (MOST_OUTPUT, Some(1)));
    }

    #[test]
    fn a_child_that_stays_behind_does_not_hold_the_answer() {
        let begun = Instant::now();
        let outcome = sh("setsid sleep 5 & echo here", LONG).unwrap();
        assert_eq!(outcome.code, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_signal_is_distinguished_from_an_exit_code() {
        let outcome = sh("kill -SEGV $$", LONG).unwrap();
        assert_eq!((outcome.code, outcome.signal), (None, Some(11)));
    }

    /// Needs root, as the other tests of owners do.
    #[test]
    fn only_what_no_other_user_can_change_is_trusted() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
        let plant = |name: &str, directory: (u32, u32), file: (u32, u32)| {
            let folder = place.join(name);
            let path = folder.join("haproxy");
            fs::create_dir_all(&folder).unwrap();
            copy("/bin/true", &path);
            for (path, (owner, mode)) in [(&folder, directory), (&path, file)] {
                chown(path, Some(owner), Some(owner)).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            path
        };
        let user = 65534;
        let table = [
            ("roots", (0, 0o755), (0, 0o755), true),
            ("planted_file", (0, 0o755), (user, 0o755), false),
            ("planted_directory", (user, 0o755), (0, 0o755), false),
            ("open_directory", (0, 0o777), (0, 0o755), false),
            ("open_file", (0, 0o755), (0, 0o777), false),
            ("groups_file", (user, 0o775), (user, 0o775), false),
        ];
        for (name, directory, file, expected) in table {
            let path = plant(name, directory, file);
            assert_eq!(Executable::trusted(&path, 0).is_ok(), expected, "{name}");
            assert!(Executable::named(&path).is_ok(), "{name}: the caller's own word");
        }
        let link = place.join("roots/link");
        std::os::unix::fs::symlink(place.join("planted_file/haproxy"), &link).unwrap();
        assert!(Executable::trusted(&link, 0).is_err(), "a link to what a user planted");
    }

    #[test]
    fn what_was_opened_is_run_although_another_file_has_taken_its_place() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("haproxy");
        copy("/bin/true", &place);
        let opened = Executable::named(&place).unwrap();
        fs::remove_file(&place).unwrap();
        copy("/bin/false", &place);
        let outcome = opened.run(&job(&[]), LONG).unwrap();
        assert_eq!(outcome.code, Some(0));
    }

    #[test]
    fn what_is_no_program() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("script");
        fs::write(&place, "#!/bin/sh\nexit 0\n").unwrap();
        let error = Executable::named(&place).unwrap_err().to_string();
        assert!(error.contains("is not a program; name HAProxy's own executable"), "{error}");
        fs::remove_file(&place).unwrap();
        let error = Executable::named(Path::new("/usr")).unwrap_err().to_string();
        assert_eq!(error, "/usr is not a file");
        let error = Executable::named(&place).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
