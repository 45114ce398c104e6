//! `backup restore`: puts the files of a backup back. Without `--execute` it only says what it would do.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::answer::{Answer, Stopped};
use super::diff;
use super::lookup::{self, Latest, named};
use super::source::sha256_of;
use super::verify::integrity;
use super::write::{Content, write};
use crate::backup::differences::{self, Difference, Disk, What};
use crate::backup::disk::error::{Error as DiskError, failed};
use crate::backup::disk::kept;
use crate::backup::disk::present::{self, Hashes};
use crate::backup::disk::restore::Restorer;
use crate::backup::disk::store::{Backup, Store};
use crate::backup::disk::tree;
use crate::backup::manifest::{Entry, Kind, Manifest, PathText};
use crate::cli::{BackupRestore, Check, CheckOutput};
use crate::cmd::{ANOMALIES, Error};
use crate::haproxy::command_line::CommandLine;

/// Restores one backup.
pub fn run(arguments: &BackupRestore, answer: &mut Answer) -> Result<(), Stopped> {
    let directory = lookup::directory(&arguments.options, arguments.to.as_deref())?;
    let store = Store::open(&directory, false)?;
    let lock = store.lock()?;
    let name = named(&store, &arguments.name, arguments.haproxy.as_deref(), Latest::Verified)?;
    let backup = store.backup(&name)?;
    let chosen =
        differences::chosen(&backup.manifest, &arguments.files).map_err(Error::BackupName)?;
    let place = arguments.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let root = tree::open(&place).map_err(failed("cannot open", &place))?;
    let disk = present::look(&root, &backup.manifest, &mut Hashes::default());
    let wanted = |difference: &Difference<'_>| {
        chosen.is_empty() || chosen.contains(difference.entry.path.path())
    };
    let mut all = differences::of(&backup.manifest, &disk);
    all.retain(wanted);
    with_parents(&backup.manifest, &disk, &mut all);
    let work = Work { arguments, store: &store, backup: &backup, root: &root, disk: &disk, all };
    work.plan(answer);
    let refusal = work.refusal();
    if !refusal.is_empty() {
        answer.worsen(ANOMALIES);
        answer.notes.extend(refusal);
        answer.note("nothing was restored");
        answer.json = work.json(None, false);
        return Ok(());
    }
    if work.is_same() {
        answer.line(&format!("{} is the same as the disk", backup.manifest.name));
        answer.json = work.json(None, true);
    } else if !arguments.execute {
        answer.line("this was a dry run; --execute does it");
        answer.worsen(ANOMALIES);
        answer.json = work.json(None, false);
    } else {
        work.execute(answer);
    }
    drop(lock);
    if arguments.execute && answer.code == 0 && arguments.root.is_none() {
        conclude(arguments, &backup.manifest, answer)?;
    }
    Ok(())
}

/// Adds the missing directories above the entries that were chosen.
fn with_parents<'m>(manifest: &'m Manifest, disk: &Disk, all: &mut Vec<Difference<'m>>) {
    let mut needed = BTreeSet::new();
    for difference in all.iter() {
        let above = difference.entry.path.path().ancestors().skip(1);
        needed.extend(above.map(Path::to_owned));
    }
    let known: BTreeSet<PathBuf> = all.iter().map(|one| one.entry.path.0.clone()).collect();
    let missing = differences::of(manifest, disk).into_iter().filter(|one| {
        let path = one.entry.path.path();
        needed.contains(path) && !known.contains(path) && !disk.present.contains_key(path)
    });
    all.extend(missing);
    all.sort_by(|one, other| one.entry.path.cmp(&other.entry.path));
}

/// A restore, as it was decided.
struct Work<'a> {
    arguments: &'a BackupRestore,
    store: &'a Store,
    backup: &'a Backup,
    root: &'a OwnedFd,
    disk: &'a Disk,
    all: Vec<Difference<'a>>,
}

impl Work<'_> {
    /// The files that were added since, in what is restored: all of it, or the directories that were named.
    fn added(&self) -> impl Iterator<Item = &PathBuf> {
        let named = &self.arguments.files;
        let concerns = move |path: &Path| named.iter().any(|name| path.starts_with(name));
        self.disk.added.iter().filter(move |path| named.is_empty() || concerns(path))
    }

    /// What is removed.
    fn removed(&self) -> impl Iterator<Item = &PathBuf> {
        self.added().filter(|_| self.arguments.remove_added)
    }

    fn is_same(&self) -> bool {
        self.all.is_empty() && self.removed().next().is_none()
    }

    fn plan(&self, answer: &mut Answer) {
        for difference in &self.all {
            answer.line(&format!("restore {}", diff::title(difference, self.disk)));
        }
        for path in self.removed() {
            answer.line(&format!("remove added: {}", PathText(path.clone())));
        }
    }

    /// Why nothing may be restored.
    fn refusal(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.backup.manifest.other_root && self.arguments.root.is_none() {
            why.push(
                "the files are those of a container or chroot; give its root directory with --root"
                    .to_owned(),
            );
        }
        for path in self.added().filter(|_| !self.arguments.remove_added) {
            why.push(format!(
                "{} was added since, and HAProxy would load it; --remove-added moves it into the backup \
                 of the present state",
                PathText(path.clone())
            ));
        }
        for difference in &self.all {
            let entry = difference.entry;
            let path = entry.path.path();
            if let Some(what) = self.disk.blocked.get(path) {
                why.push(format!("{} cannot be restored: {what}", entry.path));
            }
            if let Some(reason) = self.disk.unread.get(path) {
                why.push(format!("{} cannot be read: {reason}", entry.path));
            }
            let is_directory = matches!(entry.kind, Kind::Directory { .. });
            let now = self.disk.present.get(path).map(|present| &present.what);
            if now.is_some_and(|now| is_directory != (*now == What::Directory)) {
                let (was, is) = if is_directory { ("a", "none") } else { ("no", "one") };
                why.push(format!(
                    "{} was {was} directory and is {is} now; move it away first",
                    entry.path
                ));
            }
        }
        let faults = integrity(self.backup);
        why.extend(faults.iter().map(|fault| format!("{}: {fault}", self.backup.manifest.name)));
        why
    }

    fn execute(&self, answer: &mut Answer) {
        let safety = match self.safety() {
            Ok(safety) => safety,
            Err(error) => {
                answer.note(
                    "no backup of the present state could be taken, so that nothing was restored",
                );
                answer.json = self.json(None, false);
                return answer.failed(&error);
            }
        };
        if let Some(name) = &safety {
            answer.line(&format!("what is replaced was kept as {name}"));
        }
        if let Err(error) = self.apply() {
            answer.failed(&error);
            let undo = safety.as_deref().unwrap_or("nothing");
            answer.note(format!("not all was restored; what was replaced is in {undo}"));
            answer.json = self.json(safety.as_deref(), false);
            return;
        }
        let name = &self.backup.manifest.name;
        answer.line(&format!("{name} is restored"));
        answer.json = self.json(safety.as_deref(), true);
    }

    fn apply(&self) -> Result<(), DiskError> {
        let restorer = Restorer::new(self.root, &self.backup.directory);
        let (directories, others): (Vec<_>, Vec<_>) =
            self.all.iter().partition(|one| matches!(one.entry.kind, Kind::Directory { .. }));
        // A hard link comes after the file that it is another name of.
        let (links, files): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|one| matches!(one.entry.kind, Kind::File { same_as: Some(_), .. }));
        for difference in directories.into_iter().chain(files).chain(links) {
            restorer.restore(difference, self.disk)?;
        }
        self.removed().try_for_each(|path| restorer.remove(path))?;
        let is_own = |entry: &&Entry| matches!(entry.kind, Kind::Directory { own: true, .. });
        let touched: BTreeSet<&Path> =
            self.all.iter().filter_map(|one| one.entry.path.path().parent()).collect();
        let own = self.backup.manifest.entries.iter().filter(is_own);
        restorer.times(
            own.filter(|entry| {
                self.arguments.files.is_empty() || touched.contains(entry.path.path())
            }),
        )
    }

    /// Keeps what is replaced or removed, with its keys, because it would be lost; `None` if nothing is lost.
    fn safety(&self) -> Result<Option<String>, DiskError> {
        let present = self.all.iter().filter(|one| {
            let now = self.disk.present.get(one.entry.path.path());
            now.is_some_and(|now| !matches!(now.what, What::Special))
        });
        let paths: BTreeSet<PathBuf> =
            present.map(|one| one.entry.path.0.clone()).chain(self.removed().cloned()).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        let manifest = &self.backup.manifest;
        let roles = manifest.entries.iter();
        let roles = roles.map(|entry| (entry.path.0.clone(), entry.roles.clone())).collect();
        for _ in 0..4 {
            let gathered = kept::keep(self.root, &paths, &roles);
            if let Some(problem) = gathered.problems.first() {
                let error = std::io::Error::other(problem.why.clone());
                return Err(failed("cannot keep", &problem.path)(error));
            }
            let content = Content {
                haproxy: &manifest.haproxy,
                safety: true,
                other_root: manifest.other_root,
                command: manifest.command.clone(),
                program: manifest.program.clone(),
                variables: BTreeMap::new(),
                gathered,
            };
            match write(self.store, self.root, content, false) {
                Err(DiskError::Changed { .. }) => {}
                kept => return Ok(Some(kept?.name)),
            }
        }
        Err(DiskError::Changed { path: PathBuf::from("/") })
    }

    fn json(&self, safety: Option<&str>, done: bool) -> serde_json::Value {
        json!({
            "version": 1,
            "name": self.backup.manifest.name,
            "done": done,
            "safety": safety,
            "restore": self.all.iter().map(|one| json!({
                "path": one.entry.path,
                "aspects": one.aspects.iter().map(|aspect| aspect.as_str()).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "added": self.disk.added.iter().map(|path| PathText(path.clone())).collect::<Vec<_>>(),
        })
    }
}

/// Checks what was restored, and says how to load it.
fn conclude(
    arguments: &BackupRestore,
    manifest: &Manifest,
    answer: &mut Answer,
) -> Result<(), Error> {
    let line = CommandLine::parse(&manifest.command.arguments).unwrap_or_default();
    let directory = manifest.command.directory.path();
    let files = line.files.iter().map(|file| directory.join(file)).collect();
    let check = Check {
        files,
        directory: Some(directory.to_owned()).filter(|path| path.is_dir()),
        local_peer: line.local_peer.clone(),
        haproxy: None,
        port: None,
        free: None,
        within: None,
        offline: false,
        binary: None,
        no_binary: false,
        timeout: Duration::from_secs(60),
        strict: false,
        output: CheckOutput::Text,
        options: arguments.options.clone(),
    };
    let judged = crate::cmd::check::configurations(&check)?;
    answer.text.push_str(&judged.text);
    answer.notes.extend(judged.notes);
    answer.worsen(judged.code);
    answer.line(&format!("to load it: {}", reload(manifest, &line)));
    let running = manifest.program.version.as_deref();
    let path = manifest.program.path.as_ref();
    if let (Some(version), Some(path)) = (running, path)
        && sha256_of(path.path()) != manifest.program.sha256
    {
        let package = manifest.program.package.as_ref();
        let package = package.map(|package| format!(" ({package})")).unwrap_or_default();
        answer.line(&format!(
            "it ran with HAProxy {version}{package}; {path} is another program now"
        ));
    }
    Ok(())
}

/// The command that loads the configuration.
fn reload(manifest: &Manifest, line: &CommandLine) -> String {
    if let Some(unit) = &manifest.command.unit {
        return format!("systemctl reload {unit}");
    }
    let pidfile = line.pidfile.as_deref().unwrap_or("PIDFILE");
    if line.master_worker {
        return format!("kill -USR2 $(cat {pidfile})");
    }
    let program = manifest.program.path.as_ref().map_or("haproxy".to_owned(), ToString::to_string);
    format!("{program} {} -sf $(cat {pidfile})", line.kept.join(" "))
}
