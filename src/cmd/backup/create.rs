//! `backup create`: keeps what the services of this host read.

use std::os::fd::OwnedFd;
use std::path::Path;

use regex::Regex;
use serde_json::json;

use super::answer::{Answer, Stopped, size};
use super::lookup;
use super::source::{self, Limits};
use super::write::{Content, write};
use crate::backup::disk::error::{Error as DiskError, failed};
use crate::backup::disk::store::Store;
use crate::backup::disk::tree;
use crate::backup::manifest::{Kind, Manifest};
use crate::backup::retention::{Kept, removed};
use crate::cli::BackupCreate;
use crate::cmd::check::host::{Host, LiveService};
use crate::cmd::check::target::{self, Target};
use crate::cmd::{ANOMALIES, BLIND, Error};
use crate::policy::Policy;
use crate::report::text::printable;

/// How often a backup is begun before it fails because a file changed meanwhile.
const ATTEMPTS: usize = 4;

/// Takes a backup of each service.
pub fn run(arguments: &BackupCreate, answer: &mut Answer) -> Result<(), Stopped> {
    let options = &arguments.options;
    let directory = lookup::directory(options, arguments.to.as_deref())?;
    let exclude: Vec<Regex> =
        arguments.exclude.iter().map(|glob| glob_of(glob)).collect::<Result<_, _>>()?;
    let (policy, host, verdict) = target::look(options, arguments.haproxy.as_deref())?;
    let mut all = Vec::new();
    let mut is_named = false;
    let store = Store::open(&directory, true)?;
    let _lock = store.lock()?;
    store.sweep()?;
    for service in &verdict.services {
        if arguments.haproxy.as_ref().is_some_and(|name| *name != service.name) {
            continue;
        }
        is_named = true;
        let Some(running) = host.service(&service.name) else {
            if arguments.haproxy.is_some() {
                let name = &service.name;
                let why = format!("{name} does not run, so that what it reads is not known");
                answer.wrong(ANOMALIES, why);
            }
            continue;
        };
        let unit = service.identity.shown().unit.filter(|unit| !unit.is_empty());
        let found = (running, unit.as_deref());
        match keep(arguments, (&policy, &host), found, (&store, &exclude)) {
            Ok(Some(manifest)) => {
                describe(answer, &store, &manifest);
                all.push(summary(&manifest));
                retain(answer, &store, arguments, &manifest.haproxy);
            }
            Ok(None) => {
                answer.note(format!(
                    "{} is left out: another user started it, and its files are not followed",
                    service.name
                ));
                if arguments.haproxy.is_some() {
                    answer.worsen(ANOMALIES);
                }
            }
            Err(Refused { lines, code }) => {
                answer.note(format!("no backup of {} was taken:", service.name));
                answer.notes.extend(lines);
                answer.worsen(code);
            }
        }
    }
    if !is_named && !host.unreadable().is_empty() && all.is_empty() {
        answer.wrong(BLIND, "no HAProxy could be seen, and not every process could be read");
    } else if verdict.services.is_empty() {
        answer.line("no HAProxy runs on this host");
    }
    answer.json = json!({"version": 1, "backups": all});
    Ok(())
}

fn glob_of(glob: &str) -> Result<Regex, Error> {
    let pattern = regex::escape(glob).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!("(?s)^{pattern}$"))
        .map_err(|error| Error::BackupName(format!("--exclude {glob:?}: {error}")))
}

/// Why there is no backup of a service.
struct Refused {
    lines: Vec<String>,
    code: u8,
}

impl From<DiskError> for Refused {
    fn from(error: DiskError) -> Refused {
        let code = if error.is_of_rights() { BLIND } else { ANOMALIES };
        Refused { lines: vec![error.to_string()], code }
    }
}

/// Takes the backup of one service; `None` if neither root nor the caller started it.
fn keep(
    arguments: &BackupCreate,
    (policy, host): (&Policy, &Host),
    (running, unit): (&LiveService, Option<&str>),
    (store, exclude): (&Store, &[Regex]),
) -> Result<Option<Manifest>, Refused> {
    if running.source.is_some() && !target::is_trusted(running) {
        return Ok(None);
    }
    let unseen = || Refused {
        lines: vec!["no process shows its configuration (needs root)".to_owned()],
        code: BLIND,
    };
    let target = target::own(policy, running).ok_or_else(unseen)?;
    let limits = Limits { include_keys: arguments.include_keys, exclude };
    let mut attempts = 0;
    loop {
        let (root, content) = look(host, (running, &target), unit, &limits)?;
        // The root again, opened for its names.
        let readable = tree::enter(root, ".").map_err(failed("cannot open", Path::new("/")))?;
        attempts += 1;
        match write(store, &readable, content, arguments.archive) {
            Err(DiskError::Changed { .. }) if attempts < ATTEMPTS => {}
            written => return Ok(Some(written?)),
        }
    }
}

fn look<'s>(
    host: &Host,
    service: (&'s LiveService, &Target),
    unit: Option<&str>,
    limits: &Limits<'_>,
) -> Result<(OwnedFd, Content<'s>), Refused> {
    let (root, content) = source::of(host, service, unit, limits).map_err(|error| Refused {
        lines: vec![format!("its root directory cannot be opened: {error}")],
        code: BLIND,
    })?;
    let problems = &content.gathered.problems;
    if problems.is_empty() {
        return Ok((root, content));
    }
    let of_rights = problems.iter().any(|problem| problem.of_rights);
    let lines = problems.iter().map(|problem| {
        format!("could not read {}: {}", printable(&problem.path.to_string_lossy()), problem.why)
    });
    Err(Refused { lines: lines.collect(), code: if of_rights { BLIND } else { ANOMALIES } })
}

fn files(manifest: &Manifest) -> usize {
    manifest.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count()
}

fn describe(answer: &mut Answer, store: &Store, manifest: &Manifest) {
    answer.line(&format!(
        "{}: {} files, {} in {}",
        manifest.name,
        files(manifest),
        size(manifest.bytes()),
        store.path.display()
    ));
    for left in &manifest.left_out {
        let hash = left.sha256.as_ref().map(|hash| format!(", sha256 {hash}")).unwrap_or_default();
        answer.line(&format!("  left out: {} ({}{hash})", left.path, left.why));
    }
}

fn summary(manifest: &Manifest) -> serde_json::Value {
    json!({
        "name": manifest.name,
        "haproxy": manifest.haproxy,
        "taken_timestamp": manifest.taken,
        "files": files(manifest),
        "bytes": manifest.bytes(),
        "left_out": manifest.left_out,
    })
}

/// Removes the oldest backups of a service, as far as `--keep` asks for it.
fn retain(answer: &mut Answer, store: &Store, arguments: &BackupCreate, haproxy: &str) {
    let Some(keep) = arguments.keep else { return };
    let all = match store.list() {
        Ok(all) => all,
        Err(error) => return answer.failed(&error),
    };
    let own = all.iter().filter_map(|stored| {
        let manifest = stored.manifest.as_ref().ok()?;
        let is_own = manifest.haproxy == haproxy && !manifest.safety;
        let (name, verified) = (stored.name.clone(), stored.verified.is_some());
        is_own.then_some(Kept { name, taken: manifest.taken, verified })
    });
    for name in removed(own.collect(), usize::try_from(keep).unwrap_or(usize::MAX)) {
        let Some(stored) = all.iter().find(|stored| stored.name == name) else { continue };
        match store.remove(stored) {
            Ok(()) => answer.line(&format!("  removed: {name}")),
            Err(error) => answer.failed(&error),
        }
    }
}
