//! `backup verify`: is a backup whole, and does a HAProxy accept it?
//!
//! HAProxy is run with the files of the backup in the places that they had, so that what it accepts is the
//! copy, not the disk.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::answer::{Answer, Stopped, now};
use super::lookup::{self, Latest, named};
use crate::backup::disk::layout::FILES;
use crate::backup::disk::libraries;
use crate::backup::disk::sandbox;
use crate::backup::disk::store::{Backup, Store};
use crate::backup::disk::tree;
use crate::backup::manifest::{Kind, Manifest, PathText, Verified, VerifiedBy};
use crate::check::{self, oracle};
use crate::cli::BackupVerify;
use crate::cmd::check::program::{self, NoVersion};
use crate::cmd::check::target::Target;
use crate::cmd::{ANOMALIES, BLIND, Error};
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::config::{self, Launch, Version};
use crate::haproxy::messages::Level;
use crate::haproxy::versions::{self, branch::Branch};
use crate::policy::Policy;
use crate::report::candidate::{self, Asked, Candidate};
use crate::report::candidate_text;
use crate::sample::files::config_files::{self, Base};
use crate::sample::on_demand::executable::{Executable, RunError};

/// Verifies one backup; `latest` without `--haproxy` means the newest of each service.
pub fn run(arguments: &BackupVerify, answer: &mut Answer) -> Result<(), Stopped> {
    let directory = lookup::directory(&arguments.options, arguments.to.as_deref())?;
    let store = Store::open(&directory, false)?;
    let _lock = store.lock()?;
    let services = lookup::services(&store)?;
    let each = arguments.name == "latest" && arguments.haproxy.is_none() && services.len() > 1;
    let wanted: Vec<Option<&str>> = if each {
        services.iter().map(|service| Some(service.as_str())).collect()
    } else {
        vec![arguments.haproxy.as_deref()]
    };
    let mut all = Vec::new();
    for haproxy in wanted {
        let ended = verify(arguments, &store, haproxy, answer);
        let entry = std::mem::take(&mut answer.json);
        if !entry.is_null() {
            all.push(entry);
        }
        match ended {
            Err(Stopped::Disk(error)) => answer.failed(&error),
            ended => ended?,
        }
    }
    answer.json = json!({"version": 1, "backups": all});
    Ok(())
}

/// The entry of a backup that no HAProxy was asked about. `verified` is `None` where that could not be decided.
fn unproved(name: &str, verified: Option<bool>, faults: &[String]) -> Value {
    json!({
        "name": name,
        "verified": verified,
        "faults": faults,
        "binary": null,
        "binary_version": null,
        "from_disk": [],
        "check": null,
    })
}

/// Verifies the backup that the arguments mean, of one service if that is named. Its entry is the answer's JSON.
fn verify(
    arguments: &BackupVerify,
    store: &Store,
    haproxy: Option<&str>,
    answer: &mut Answer,
) -> Result<(), Stopped> {
    let backup = store.backup(&named(store, &arguments.name, haproxy, Latest::Complete)?)?;
    let name = &backup.manifest.name;
    if backup.manifest.safety {
        let why = format!("{name} holds what a restore replaced, not a whole configuration");
        answer.json = unproved(name, Some(false), std::slice::from_ref(&why));
        answer.wrong(ANOMALIES, why);
        return Ok(());
    }
    let faults = integrity(&backup);
    if faults.is_empty() {
        return prove(arguments, (store, &backup), answer);
    }
    for fault in &faults {
        answer.line(&format!("{name}: {fault}"));
    }
    answer.json = unproved(name, Some(false), &faults);
    answer.worsen(ANOMALIES);
    Ok(store.record(&backup.stored, None)?)
}

/// What is wrong with the files of a backup.
pub fn integrity(backup: &Backup) -> Vec<String> {
    let mut faults = Vec::new();
    let files = match tree::enter(&backup.directory, FILES) {
        Ok(files) => files,
        Err(error) => {
            return vec![format!("its files cannot be read: {}", std::io::Error::from(error))];
        }
    };
    let mut expected = BTreeSet::new();
    for entry in &backup.manifest.entries {
        let Kind::File { size, sha256, same_as: None, .. } = &entry.kind else { continue };
        let path = entry.path.path();
        expected.insert(path.to_owned());
        let read = tree::parent(&files, path)
            .and_then(|(parent, name)| tree::open_file(&parent, name))
            .map_err(std::io::Error::from)
            .and_then(|(file, _)| tree::digest(file, &mut std::io::sink()));
        match read {
            Ok(digest) if digest.sha256 == *sha256 && digest.size == *size => {}
            Ok(_) => faults.push(format!("the copy of {} was changed", entry.path)),
            Err(error) => {
                faults.push(format!("the copy of {} cannot be read: {error}", entry.path));
            }
        }
    }
    for path in all_files(&files, Path::new("/")).difference(&expected) {
        faults.push(format!("{} was added to its files", PathText(path.clone())));
    }
    faults
}

fn all_files(at: &OwnedFd, path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for name in tree::names(at).unwrap_or_default() {
        let path = path.join(&name);
        match tree::enter(at, &name) {
            Ok(inner) => found.extend(all_files(&inner, &path)),
            Err(_) => drop(found.insert(path)),
        }
    }
    found
}

/// The executable that ran when the backup was taken, or why it is not run.
fn executable(manifest: &Manifest) -> Result<Executable, String> {
    let path = manifest.program.path.as_ref();
    let path = path.ok_or("it is not known which executable ran; name one with --binary")?;
    let caller = rustix::process::geteuid().as_raw();
    let found = Executable::trusted(path.path(), caller);
    found.map_err(|why| format!("{why}; name an executable with --binary"))
}

/// Lets HAProxy judge the copy, and records that it accepts it.
fn prove(
    arguments: &BackupVerify,
    (store, backup): (&Store, &Backup),
    answer: &mut Answer,
) -> Result<(), Stopped> {
    let manifest = &backup.manifest;
    let name = &manifest.name;
    let until = Instant::now() + arguments.timeout;
    let not_proved = |why: &str, answer: &mut Answer| {
        let why = format!("{name} is whole, but {why}");
        answer.json = unproved(name, None, std::slice::from_ref(&why));
        answer.wrong(BLIND, why);
    };
    let (executable, version) = match choose(arguments, manifest, until)? {
        Ok(chosen) => chosen,
        Err(why) => {
            not_proved(&why, answer);
            return Ok(());
        }
    };
    let policy = crate::cmd::load(arguments.options.config_file.as_deref())?.policy;
    let Some(line) = CommandLine::parse(&manifest.command.arguments) else {
        let why = format!("{name}: its arguments are not those of a HAProxy");
        answer.json = unproved(name, Some(false), std::slice::from_ref(&why));
        answer.wrong(ANOMALIES, why);
        return Ok(());
    };
    let target = target(&policy, backup, &line, version);
    let libraries = libraries::directories(executable.path());
    let judged = sandbox::inside(backup, &libraries, || {
        judge(&target, &line, &executable, (version, manifest), until)
    });
    let (judged, from_disk) = match judged {
        Ok(judged) => judged,
        Err(error) => {
            answer.line(&format!("{name} does not verify: {error}"));
            let (code, verified) = match error {
                sandbox::Error::LeftOut(_) => (ANOMALIES, Some(false)),
                _ => (BLIND, None),
            };
            answer.worsen(code);
            answer.json = unproved(name, verified, &[error.to_string()]);
            return Ok(());
        }
    };
    let candidate = match judged {
        Ok(candidate) => candidate,
        Err(why) => {
            not_proved(&unanswered(&why), answer);
            return Ok(());
        }
    };
    let accepted = candidate.asked.as_ref().and_then(|asked| asked.accepted) == Some(true);
    answer.text.push_str(&candidate_text::text(
        std::slice::from_ref(&candidate),
        false,
        crate::cmd::terminal_width(),
    ));
    for path in &from_disk {
        answer.line(&format!("  taken from the disk, where it is as it was: {path}"));
    }
    answer.json = json!({
        "name": name,
        "verified": accepted,
        "faults": [],
        "binary": PathText(executable.path().to_owned()),
        "binary_version": version.to_string(),
        "from_disk": from_disk,
        "check": candidate::json(std::slice::from_ref(&candidate)),
    });
    if !accepted {
        answer.line(&format!("{name} does not verify: HAProxy {version} refuses it"));
        answer.worsen(ANOMALIES);
        return Ok(());
    }
    answer.line(&format!("{name} verifies: it is whole, and HAProxy {version} accepts it"));
    let by = VerifiedBy {
        timestamp: now(),
        binary: PathText(executable.path().to_owned()),
        version: version.to_string(),
        from_disk,
    };
    Ok(store.record(&backup.stored, Some(&with(backup, by)))?)
}

/// The HAProxy that judges the copy, and its version. The inner error is why there is none, after the words
/// "the backup is whole, but".
fn choose(
    arguments: &BackupVerify,
    manifest: &Manifest,
    until: Instant,
) -> Result<Result<(Executable, Version), String>, Stopped> {
    let executable = match &arguments.binary {
        Some(path) => Executable::named(path).map_err(Error::from)?,
        None => match executable(manifest) {
            Ok(executable) => executable,
            Err(why) => return Ok(Err(format!("no HAProxy was run: {why}"))),
        },
    };
    match program::ask_version(&executable, until) {
        Ok(version) => Ok(Ok((executable, version))),
        Err(NoVersion::Other(why)) if arguments.binary.is_some() => {
            Err(Error::NoHaproxy(why).into())
        }
        Err(NoVersion::Other(why) | NoVersion::TimedOut(why)) => Ok(Err(unanswered(&why))),
    }
}

fn unanswered(why: &str) -> String {
    format!("HAProxy gave no answer: {why}")
}

/// The record of the programs that have verified a backup, with one more.
fn with(backup: &Backup, by: VerifiedBy) -> Verified {
    let mut programs = backup.stored.verified.clone().unwrap_or_default().programs;
    programs.retain(|known| (&known.binary, &known.version) != (&by.binary, &by.version));
    programs.push(by);
    Verified { version: 1, manifest_sha256: backup.stored.manifest_sha256.clone(), programs }
}

/// What to judge: the files of the command line, in the places that they had.
fn target(policy: &Policy, backup: &Backup, line: &CommandLine, version: Version) -> Target {
    let manifest = &backup.manifest;
    let launch = Launch {
        environment: Some(backup.variables.clone()),
        version: Some(version),
        host_name: Some(manifest.hostname.clone()),
        local_peer: line.local_peer.clone(),
        master_sockets: line.master_socket.iter().cloned().collect(),
        master_worker: line.master_worker,
        switches: line.switches.clone(),
        ..Launch::default()
    };
    let base = Base { directory: manifest.command.directory.0.clone(), ..Base::default() };
    Target {
        service: Some(manifest.haproxy.clone()),
        rules: policy.rules(&manifest.haproxy).clone(),
        names: line.files.iter().map(PathBuf::from).collect(),
        base,
        launch,
        unseen: Vec::new(),
    }
}

/// Judges the copy. Runs where the copy is in its place.
fn judge(
    target: &Target,
    line: &CommandLine,
    executable: &Executable,
    (version, manifest): (Version, &Manifest),
    until: Instant,
) -> Result<Candidate, String> {
    let collected = config_files::collect(&target.names, &target.base);
    if let Some(problem) = collected.problems.first() {
        return Err(problem.to_string());
    }
    let declared = config::read(&collected.files, &target.launch);
    let statements = config::statements(&collected.files, &target.launch);
    let job =
        program::job(target, (Some(line), target.launch.master_worker), (&declared, &statements));
    let left = until.saturating_duration_since(Instant::now());
    let outcome = executable.run(&job, left).map_err(|error| match error {
        RunError::TimedOut { .. } | RunError::NotStarted { .. } => error.to_string(),
    })?;
    let mut unseen = Vec::new();
    let said = program::answer(&outcome, &mut unseen, (executable.path(), &target.base.directory));
    let mut findings = check::judge(&declared, &target.rules, None, crate::cmd::unix_now());
    oracle::add_answer(&mut findings, &said, &collected.files);
    let before = manifest.program.version.as_deref().and_then(Version::parse);
    if let Some(before) = before {
        let (from, to) = (Branch::of(&before), Branch::of(&version));
        let notes = versions::notes(&statements, &target.launch, from, to);
        oracle::add_notes(&mut findings, &notes, said.accepted);
    }
    let refuses = said.messages.iter().any(|message| message.level == Level::Alert);
    let accepted = (said.accepted || refuses).then_some(said.accepted);
    let asked = Asked {
        path: executable.path().to_owned(),
        version: Some(version),
        accepted,
        left_out: None,
    };
    Ok(Candidate {
        service: target.service.clone(),
        files: collected.files,
        declared,
        asked: Some(asked),
        findings,
        unseen,
        ..Candidate::default()
    })
}
