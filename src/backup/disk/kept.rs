//! Collects single paths as they are, for the backup that a restore takes of what it replaces.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Stat};

use super::gather::{Gathered, Problem, entry};
use super::tree;
use crate::backup::manifest::{Kind, PathText, Role};

/// Collects these paths below `root`, with the directories above them and with their keys. No link is
/// followed, and a link is kept as one.
#[must_use]
pub fn keep(
    root: &OwnedFd,
    paths: &BTreeSet<PathBuf>,
    roles: &BTreeMap<PathBuf, BTreeSet<Role>>,
) -> Gathered {
    let mut keeper = Keeper { root, gathered: Gathered::default(), inodes: BTreeMap::new() };
    for path in paths {
        keeper.keep(path, roles.get(path));
    }
    keeper.gathered
}

struct Keeper<'a> {
    root: &'a OwnedFd,
    gathered: Gathered,
    /// Files with several names, by device and inode.
    inodes: BTreeMap<(u64, u64), PathBuf>,
}

impl Keeper<'_> {
    fn problem(&mut self, path: &Path, error: &std::io::Error) {
        let of_rights = error.kind() == std::io::ErrorKind::PermissionDenied;
        let (path, why) = (path.to_owned(), error.to_string());
        self.gathered.problems.push(Problem { path, why, of_rights });
    }

    /// Keeps one path as it is.
    fn keep(&mut self, path: &Path, roles: Option<&BTreeSet<Role>>) {
        for above in path.ancestors().skip(1).filter(|above| tree::steps(above).count() > 0) {
            self.keep_status(above);
        }
        if !self.keep_status(path).is_some_and(|stat| tree::is_file(&stat)) {
            return;
        }
        let read = || -> std::io::Result<_> {
            let (file, stat) = tree::open_below(self.root, path)?;
            let digest = tree::digest(&file, &mut std::io::sink())?;
            Ok((digest, tree::attributes(&file)?, stat))
        };
        match read() {
            Ok((digest, attributes, stat)) => {
                let first = self.inodes.entry((stat.st_dev, stat.st_ino));
                let first = first.or_insert_with(|| path.to_owned());
                let same_as = (first != path).then(|| PathText(first.clone()));
                let tree::Digest { size, sha256, private_key } = digest;
                let kind = Kind::File { size, sha256, private_key, same_as };
                let mut entry = entry(path, kind, &stat);
                entry.attributes = attributes;
                entry.roles = roles.cloned().unwrap_or_default();
                self.gathered.entries.insert(path.to_owned(), entry);
            }
            Err(error) => self.problem(path, &error),
        }
    }

    /// Keeps a directory or link as it is. Answers its status.
    fn keep_status(&mut self, path: &Path) -> Option<Stat> {
        let found = tree::parent(self.root, path).and_then(|(parent, name)| {
            let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            let target = is_link.then(|| fs::readlinkat(&parent, name, Vec::new())).transpose()?;
            Ok((stat, target))
        });
        let (stat, target) = found.map_err(|error| self.problem(path, &error.into())).ok()?;
        if let Some(target) = target {
            let target = PathText(OsStr::from_bytes(target.as_bytes()).into());
            let link = entry(path, Kind::Link { target }, &stat);
            self.gathered.entries.insert(path.to_owned(), link);
        } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let directory = || entry(path, Kind::Directory { loads: None, own: false }, &stat);
            self.gathered.entries.entry(path.to_owned()).or_insert_with(directory);
        }
        Some(stat)
    }
}
