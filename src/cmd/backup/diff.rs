//! `backup diff`: what differs between a backup and the disk.

use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::{Value, json};

use super::answer::{Answer, Stopped};
use super::lookup::{self, Latest, named};
use crate::backup::differences::{self, Aspect, Difference, Disk, What};
use crate::backup::disk::error::failed;
use crate::backup::disk::layout::FILES;
use crate::backup::disk::present::{self, Hashes};
use crate::backup::disk::store::{Backup, Store};
use crate::backup::disk::tree;
use crate::backup::keys::Scanner;
use crate::backup::lines::{self, Line};
use crate::backup::manifest::{Entry, Kind, Manifest, PathText, Role};
use crate::cli::BackupDiff;
use crate::cmd::{ANOMALIES, BLIND};
use crate::haproxy::mask::Text;

/// The largest file of which lines are compared.
const MOST_BYTES: u64 = 8 << 20;

/// Compares one backup with the disk.
pub fn run(arguments: &BackupDiff, answer: &mut Answer) -> Result<(), Stopped> {
    let directory = lookup::directory(&arguments.options, arguments.to.as_deref())?;
    let store = Store::open(&directory, false)?;
    let name = &named(&store, &arguments.name, arguments.haproxy.as_deref(), Latest::Verified)?;
    let backup = store.backup(name)?;
    let root = tree::open(Path::new("/")).map_err(failed("cannot open", Path::new("/")))?;
    let disk = present::look(&root, &backup.manifest, &mut Hashes::default());
    let mut all = Vec::new();
    for difference in differences::of(&backup.manifest, &disk).iter().filter(|one| one.matters()) {
        answer.line(&title(difference, &disk));
        let shown = content(&backup, &root, difference, arguments.show_secrets);
        for line in &shown {
            answer.line(&line.shown());
        }
        all.push(as_json(difference, &disk, &shown));
    }
    others(answer, &backup.manifest, &disk);
    if all.is_empty() && answer.code == 0 {
        answer.line(&format!("{name} is the same as the disk"));
    } else if !all.is_empty() {
        answer.worsen(ANOMALIES);
    }
    let left: Vec<_> =
        differences::of_left_out(&backup.manifest, &disk).iter().map(|left| &left.path).collect();
    answer.json = json!({
        "version": 1,
        "name": name,
        "differences": all,
        "added": disk.added.iter().map(|path| PathText(path.clone())).collect::<Vec<_>>(),
        "left_out_changed": left,
        "unreadable": disk.unread.keys().map(|path| PathText(path.clone())).collect::<Vec<_>>(),
    });
    Ok(())
}

/// What differs besides the entries of the backup.
pub fn others(answer: &mut Answer, manifest: &Manifest, disk: &Disk) {
    for path in &disk.added {
        answer.line(&format!("added: {} (HAProxy would load it)", PathText(path.clone())));
        answer.worsen(ANOMALIES);
    }
    for left in differences::of_left_out(manifest, disk) {
        let now = disk.left_out.get(left.path.path()).map_or("missing", String::as_str);
        let then = left.sha256.as_deref().unwrap_or_default();
        answer.line(&format!(
            "changed: {} (left out of the backup; sha256 {then}, now {now})",
            left.path
        ));
        answer.worsen(ANOMALIES);
    }
    for (path, what) in &disk.blocked {
        answer.line(&format!("out of reach: {} ({what})", PathText(path.clone())));
    }
    for (path, why) in &disk.unread {
        answer.wrong(BLIND, format!("could not read {}: {why}", PathText(path.clone())));
    }
}

/// A difference in one line.
pub fn title(difference: &Difference<'_>, disk: &Disk) -> String {
    let entry = difference.entry;
    let now = disk.present.get(entry.path.path());
    let aspects = difference.aspects.iter().map(|aspect| match (aspect, now) {
        (Aspect::Mode, Some(now)) => {
            format!("mode {:04o}, now {:04o}", differences::restored_mode(entry), now.mode)
        }
        (Aspect::Owner, Some(now)) => {
            format!("owner {}:{}, now {}:{}", entry.uid, entry.gid, now.uid, now.gid)
        }
        (Aspect::Target, Some(now)) => match (&entry.kind, &now.what) {
            (Kind::Link { target }, What::Link { target: now }) => {
                format!("leads to {target}, now to {}", PathText(now.clone()))
            }
            _ => "target".to_owned(),
        },
        (Aspect::Content, Some(now)) if is_secret(entry) => match (&entry.kind, &now.what) {
            (Kind::File { sha256, .. }, What::File { sha256: now }) => {
                format!("content, a key: sha256 {sha256}, now {now}")
            }
            _ => "content".to_owned(),
        },
        (aspect, _) => aspect.as_str().to_owned(),
    });
    let aspects: Vec<String> = aspects.collect();
    let word = if difference.aspects.contains(&Aspect::Missing) { "missing" } else { "changed" };
    match aspects.as_slice() {
        [one] if one == word => format!("{word}: {}", entry.path),
        aspects => format!("{word}: {} ({})", entry.path, aspects.join("; ")),
    }
}

/// The file is shown as a hash only.
fn is_secret(entry: &Entry) -> bool {
    let has_key = matches!(entry.kind, Kind::File { private_key: true, .. });
    has_key || entry.roles.contains(&Role::Key)
}

/// The lines that differ, of a text without a key.
fn content(backup: &Backup, root: &OwnedFd, difference: &Difference<'_>, open: bool) -> Vec<Line> {
    let entry = difference.entry;
    if !difference.aspects.contains(&Aspect::Content) || is_secret(entry) {
        return Vec::new();
    }
    let kept = match &entry.kind {
        Kind::File { same_as: Some(other), .. } => other.path(),
        _ => entry.path.path(),
    };
    let files = tree::enter(&backup.directory, FILES).map_err(std::io::Error::from);
    let old = files.and_then(|files| present::content(&files, kept, MOST_BYTES));
    let new = present::content(root, entry.path.path(), MOST_BYTES);
    let (Ok(old), Ok(new)) = (old, new) else { return Vec::new() };
    let mut scanner = Scanner::default();
    scanner.feed(&old);
    scanner.feed(&new);
    let (Ok(old), Ok(new), false) =
        (String::from_utf8(old), String::from_utf8(new), scanner.found())
    else {
        return Vec::new();
    };
    let text = if entry.roles.contains(&Role::Variables) {
        Text::Variables
    } else if entry.roles.contains(&Role::Unit) {
        Text::Unit
    } else {
        Text::Other
    };
    lines::differences(&old, &new, (!open).then_some(text))
}

fn as_json(difference: &Difference<'_>, disk: &Disk, lines: &[Line]) -> Value {
    let entry = difference.entry;
    let sha256 = match disk.present.get(entry.path.path()).map(|present| &present.what) {
        Some(What::File { sha256 }) => Some(sha256),
        _ => None,
    };
    let lines =
        lines.iter().map(|line| json!({"old": line.old, "new": line.new, "text": line.text}));
    json!({
        "path": entry.path,
        "aspects": difference.aspects.iter().map(|aspect| aspect.as_str()).collect::<Vec<_>>(),
        "sha256_on_disk": sha256,
        "lines": lines.collect::<Vec<_>>(),
    })
}
