//! Lets HAProxy itself judge a configuration: chooses the executable, runs it and reads its answer.
//!
//! Nothing is executed on the word of another user. The executable is the one that the caller names, or
//! the one that a service of the caller's own runs, if no other user can change it or the configuration.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Access;
use rustix::io::Errno;

use super::changeable::{REMEDY, changeable};
use super::host::{Host, LiveService};
use super::scripts;
use super::target::{Target, is_caller};
use crate::check::Finding;
use crate::check::oracle::{self, Answer};
use crate::cli::Check;
use crate::cmd::Error;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::config::{self, Declared, SourceFile, Statement, Version};
use crate::haproxy::messages::{self, Level};
use crate::haproxy::versions::{self, branch::Branch};
use crate::model::{Process, Unreadable, What};
use crate::report::candidate::Asked;
use crate::sample::on_demand::executable::{Executable, Job, Outcome, RunError, Unusable};
use crate::sample::on_demand::executables::{self, OnDisk};

/// Beginnings of the names of variables that change what the loader, the C library or OpenSSL does.
const UNSAFE_VARIABLES: [&str; 5] = ["LD_", "OPENSSL_", "GLIBC_", "GCONV_", "MALLOC_"];

/// Switches that decide what HAProxy accepts: `dG` and `dr` decide how it resolves names and whether
/// servers' names must resolve, `dW` makes a warning count as an error.
const SWITCHES: [&str; 3] = ["dG", "dW", "dr"];

/// A HAProxy that can be asked.
pub struct Program {
    executable: Executable,
    /// Its version.
    pub version: Version,
    /// The version that runs the service now, where it is another file.
    running: Option<Version>,
    /// The moment by which it must have answered.
    until: Instant,
}

/// The HAProxy that judges a configuration, or why there is none.
pub enum Choice {
    /// This one.
    Program(Program),
    /// None, for a reason that is worth saying.
    LeftOut(String),
    /// None, because it did not answer in time.
    Unanswered(Unreadable),
    /// None, because none was wanted.
    NotWanted,
}

/// Why an executable names no version.
pub enum NoVersion {
    /// It did not answer in time.
    TimedOut(String),
    /// It cannot be run, or is no HAProxy.
    Other(String),
}

/// Chooses the HAProxy to ask about one configuration, which has to end at `until`.
pub fn choose(
    (arguments, until): (&Check, Instant),
    target: &Target,
    (host, files): (&Host, &[SourceFile]),
) -> Result<Choice, Error> {
    let caller = rustix::process::geteuid().as_raw();
    let running = target.service.as_deref().and_then(|name| host.service(name));
    let process = running.and_then(|running| host.processes(running).into_iter().next());
    // Only for a service that the caller started is anything executed.
    let foreign = running.filter(|running| !running.reader().is_some_and(is_caller));
    let executable = if let Some(path) = &arguments.binary {
        Executable::named(path)?
    } else if arguments.no_binary || arguments.offline {
        return Ok(Choice::NotWanted);
    } else {
        let chosen = own_executable(host, process, foreign, caller);
        let unchangeable = |own| changeable(target, files, caller).map_or(Ok(own), Err);
        match chosen.and_then(unchangeable) {
            Ok(executable) => executable,
            Err(why) => return Ok(Choice::LeftOut(why)),
        }
    };
    let version = match ask_version(&executable, until) {
        Ok(version) => version,
        Err(NoVersion::TimedOut(why)) => {
            return Ok(Choice::Unanswered(unasked(executable.path(), &why)));
        }
        Err(NoVersion::Other(why)) if arguments.binary.is_some() => {
            return Err(Error::NoHaproxy(why));
        }
        Err(NoVersion::Other(why)) => return Ok(Choice::LeftOut(why)),
    };
    if let Some(foreign) = foreign {
        return Ok(Choice::LeftOut(another_runs(foreign)));
    }
    // The version of the process that runs, unless it executes the same file.
    let running = process.and_then(|process| {
        match executables::on_disk(&host.procfs, process.id.pid, executable.path()) {
            Some(OnDisk::Same) => None,
            Some(OnDisk::Other { running, .. }) => Version::parse(&running),
            None => target.launch.version,
        }
    });
    Ok(Choice::Program(Program { executable, version, running, until }))
}

fn another_runs(foreign: &LiveService) -> String {
    format!("another user runs {}", foreign.name)
}

/// The executable that a service of the caller's own runs, in the same view of the file systems.
fn own_executable(
    host: &Host,
    process: Option<&Process>,
    foreign: Option<&LiveService>,
    caller: u32,
) -> Result<Executable, String> {
    let process = process.ok_or("no service runs these files; name an executable with --binary")?;
    if let Some(foreign) = foreign {
        return Err(another_runs(foreign));
    }
    if !host.shares_files(process) {
        return Err("it runs in another mount namespace or root directory".to_owned());
    }
    let path = process.executable.as_ref().map(|executable| executable.path.as_path());
    let path = path.ok_or("its executable cannot be seen")?;
    Executable::trusted(path, caller).map_err(|why| match why {
        Unusable::Untrusted { .. } => format!("{why}: {REMEDY}"),
        _ => why.to_string(),
    })
}

/// Asks an executable for its version.
pub fn ask_version(executable: &Executable, until: Instant) -> Result<Version, NoVersion> {
    let job = Job { arguments: vec!["-v".into()], directory: "/".into(), ..Job::default() };
    let outcome = executable.run(&job, left(until)).map_err(|why| match why {
        RunError::TimedOut { .. } => NoVersion::TimedOut(why.to_string()),
        RunError::NotStarted { .. } => NoVersion::Other(why.to_string()),
    })?;
    messages::version(&outcome.output).ok_or_else(|| {
        let path = executable.path().display();
        NoVersion::Other(format!("{path} is not HAProxy: -v names no version"))
    })
}

/// The time that is left, in tenths of a second for the reader of a message.
fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    Duration::new(left.as_secs(), left.subsec_millis() / 100 * 100_000_000)
}

impl Choice {
    /// The configuration as the chosen HAProxy reads it: its version decides what conditions ask.
    pub fn reading(&self, target: &Target) -> Target {
        let mut target = target.clone();
        if let Choice::Program(program) = self {
            target.launch.version = Some(program.version);
        }
        target
    }
}

impl Program {
    /// Asks it about the configuration, and adds its answer to the findings. Where it lacked rights or
    /// time, that is reported as unreadable.
    pub fn ask(
        &self,
        (target, process): (&Target, Option<&Process>),
        (files, declared): (&[SourceFile], &Declared),
        findings: &mut Vec<Finding>,
        unseen: &mut Vec<Unreadable>,
    ) -> Asked {
        let asked = |accepted| Asked {
            path: self.executable.path().to_owned(),
            version: Some(self.version),
            accepted,
            left_out: None,
        };
        let statements = config::statements(files, &target.launch);
        let line = process.and_then(|process| process.arguments.as_deref());
        let line = line.and_then(CommandLine::parse);
        let as_master = target.launch.master_worker || process.is_none();
        let job = job(target, (line.as_ref(), as_master), (declared, &statements));
        let answer = match self.executable.run(&job, left(self.until)) {
            Ok(outcome) => {
                let directory = &target.base.directory;
                answer(&outcome, unseen, (self.executable.path(), directory))
            }
            Err(why) => {
                unseen.push(unasked(self.executable.path(), &why.to_string()));
                return asked(None);
            }
        };
        oracle::add_answer(findings, &answer, files);
        if let Some(running) = &self.running {
            let (from, to) = (Branch::of(running), Branch::of(&self.version));
            let notes = versions::notes(&statements, &target.launch, from, to);
            oracle::add_notes(findings, &notes, answer.accepted);
        }
        let refuses = answer.messages.iter().any(|message| message.level == Level::Alert);
        // Where every refusal is due to the caller's lesser rights, there is no answer.
        asked((answer.accepted || refuses).then_some(answer.accepted))
    }
}

/// Its arguments, directory and environment: those of the service, reduced to what decides how the
/// configuration is read.
pub fn job(
    target: &Target,
    (line, as_master): (Option<&CommandLine>, bool),
    (declared, statements): (&Declared, &[Statement]),
) -> Job {
    let mut arguments: Vec<OsString> = vec!["-c".into()];
    // A 'program' section is refused without a master. Where no service runs yet, HAProxy is taken for a
    // master, as distributions run it.
    if as_master {
        arguments.push("-W".into());
    }
    let switches = SWITCHES.iter().filter(|switch| target.launch.switches.contains(**switch));
    arguments.extend(switches.map(|switch| OsString::from(format!("-{switch}"))));
    for name in &target.names {
        arguments.extend(["-f".into(), name.clone().into_os_string()]);
    }
    if let Some(peer) = &target.launch.local_peer {
        arguments.extend(["-L".into(), peer.into()]);
    }
    let limits = line.map(CommandLine::limits).unwrap_or_default();
    arguments.extend(limits.into_iter().map(OsString::from));
    let environment = target.launch.environment.iter().flatten();
    let by_scripts = scripts::variables(statements, &target.base.directory);
    let is_read = |name: &str| {
        (declared.variables.contains(name) || by_scripts.contains(name)) && is_safe(name)
    };
    let environment = environment.filter(|(name, _)| is_read(name));
    Job {
        arguments,
        directory: target.base.directory.clone(),
        environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// A variable that changes only what the configuration reads.
pub fn is_safe(name: &str) -> bool {
    !UNSAFE_VARIABLES.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads how it ended. Messages that come from the caller's lesser rights are no errors of the
/// configuration.
pub fn answer(
    outcome: &Outcome,
    unseen: &mut Vec<Unreadable>,
    (path, directory): (&Path, &Path),
) -> Answer {
    let is_root = rustix::process::geteuid().is_root();
    let mut all = messages::messages(&outcome.output);
    let accepted = outcome.code == Some(0);
    if !accepted && !all.iter().any(|message| message.level == Level::Alert) {
        // A line with a level only says that there were errors, or it is a message of its own.
        let is_said = |line: &&str| !line.trim().is_empty() && !line.starts_with('[');
        let last = outcome.output.lines().rfind(is_said);
        let text = match (outcome.signal, last) {
            (Some(signal), _) => format!("HAProxy was ended by signal {signal} while it read this"),
            (None, Some(last)) => format!("HAProxy refuses this configuration: {last}"),
            (None, None) => "HAProxy refuses this configuration, and does not say why".to_owned(),
        };
        all.push(messages::Message { level: Level::Alert, place: None, text });
    }
    let (of_rights, messages): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|message| !is_root && !accepted && is_of_rights(&message.text, directory));
    unseen.extend(of_rights.iter().map(|message| unasked(path, &message.text)));
    Answer { accepted, messages }
}

/// The message says that a right is missing, or names a file that the caller may not read: of some files
/// HAProxy only says that it cannot open them.
fn is_of_rights(text: &str, directory: &Path) -> bool {
    let said = text.to_ascii_lowercase();
    let mut quoted = text.split('\'').skip(1).step_by(2).filter(|word| word.contains('/'));
    ["permission denied", "operation not permitted"].iter().any(|why| said.contains(why))
        || quoted.any(|path| {
            rustix::fs::access(directory.join(path), Access::READ_OK) == Err(Errno::ACCESS)
        })
}

fn unasked(path: &Path, reason: &str) -> Unreadable {
    let subject = format!("the answer of {}", path.display());
    Unreadable { what: What::Config, subject, reason: reason.to_owned() }
}
