//! Puts single entries of a backup back in their places.
//!
//! A file is written beside its place, given its owner, mode, attributes and time, synced and renamed. Where
//! only its owner, mode or time differ, those are set on the file that is there, because it may have other
//! names. No parent directory is ever reached over a link.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{
    self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::error::{Error, failed};
use super::layout::FILES;
use super::tree;
use crate::backup::differences::{Aspect, Difference, Disk, What, restored, restored_mode};
use crate::backup::manifest::{Entry, Kind, PathText};

/// Restores below one root from the files of one backup.
#[derive(Debug)]
pub struct Restorer<'a> {
    /// The root that the paths start from.
    pub root: &'a OwnedFd,
    /// The directory of the backup.
    pub backup: &'a OwnedFd,
    /// How many files were written beside their places.
    counter: Cell<usize>,
}

impl<'a> Restorer<'a> {
    /// Restores below `root` from the directory of a backup.
    #[must_use]
    pub fn new(root: &'a OwnedFd, backup: &'a OwnedFd) -> Restorer<'a> {
        Restorer { root, backup, counter: Cell::new(0) }
    }

    /// Makes one entry as the backup has it.
    pub fn restore(&self, difference: &Difference<'_>, disk: &Disk) -> Result<(), Error> {
        let entry = difference.entry;
        let path = entry.path.path();
        let of_status = [Aspect::Mode, Aspect::Owner, Aspect::Attributes, Aspect::Time];
        let whole = difference.aspects.iter().any(|aspect| !of_status.contains(aspect));
        let done = match &entry.kind {
            Kind::Directory { .. } => {
                self.directory(entry, difference.aspects.contains(&Aspect::Missing))
            }
            Kind::Link { target } if whole => self.link(entry, target.path()),
            Kind::Link { .. } => tree::parent(self.root, path)
                .and_then(|(parent, name)| link_status(&parent, name, entry)),
            Kind::File { .. } if whole => return self.file(entry, disk),
            Kind::File { .. } => self.file_status(entry),
        };
        done.map_err(failed("cannot restore", path))
    }

    /// Sets the times of directories, which every restored file in them has changed.
    pub fn times<'e>(&self, directories: impl Iterator<Item = &'e Entry>) -> Result<(), Error> {
        for entry in directories {
            let path = entry.path.path();
            let opened = tree::descend(self.root, path);
            let set = opened.and_then(|opened| fs::futimens(&opened, &times(entry)));
            set.map_err(failed("cannot set the time of", path))?;
        }
        Ok(())
    }

    fn directory(&self, entry: &Entry, missing: bool) -> Result<(), Errno> {
        let (parent, name) = tree::parent(self.root, entry.path.path())?;
        if missing {
            fs::mkdirat(&parent, name, tree::PRIVATE_DIRECTORY)?;
        }
        let opened = tree::enter(&parent, name)?;
        status(&opened, entry)?;
        fs::fsync(&opened)?;
        fs::fsync(&parent)
    }

    fn link(&self, entry: &Entry, target: &Path) -> Result<(), Errno> {
        let (parent, name) = tree::parent(self.root, entry.path.path())?;
        let beside = self.beside(&parent);
        fs::symlinkat(target, &parent, &beside)?;
        let done = link_status(&parent, beside.as_ref(), entry)
            .and_then(|()| fs::renameat(&parent, &beside, &parent, name))
            .and_then(|()| fs::fsync(&parent));
        if done.is_err() {
            let _ = fs::unlinkat(&parent, &beside, AtFlags::empty());
        }
        done
    }

    fn file_status(&self, entry: &Entry) -> Result<(), Errno> {
        let (file, _) = tree::open_below(self.root, entry.path.path())?;
        status(&file, entry)?;
        fs::futimens(&file, &times(entry))?;
        fs::fsync(&file)
    }

    fn file(&self, entry: &Entry, disk: &Disk) -> Result<(), Error> {
        let Kind::File { sha256, same_as, .. } = &entry.kind else { return Ok(()) };
        let path = entry.path.path();
        if let Some(other) = same_as.as_ref().map(PathText::path)
            && self.is_as_recorded(other, entry, sha256)
        {
            return self.hard_link(entry, other).map_err(failed("cannot restore", path));
        }
        let kept = same_as.as_ref().map_or(path, PathText::path);
        let files = tree::enter(self.backup, FILES);
        let from = files.and_then(|files| tree::open_below(&files, kept));
        let (from, _) = from.map_err(failed("cannot read the copy of", path))?;
        let (parent, name) =
            tree::parent(self.root, path).map_err(failed("cannot open the directory of", path))?;
        // A directory in its place is never removed.
        if disk.present.get(path).is_some_and(|present| present.what == What::Directory) {
            return Err(failed("cannot replace", path)(Errno::ISDIR));
        }
        let beside = self.beside(&parent);
        let written = || -> std::io::Result<()> {
            let mut file = tree::create(&parent, &beside)?;
            let digest = tree::digest(from, &mut file)?;
            if digest.sha256 != *sha256 {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    "the copy in the backup was changed, or is damaged",
                ));
            }
            status(&file, entry)?;
            fs::futimens(&file, &times(entry))?;
            file.sync_all()?;
            fs::renameat(&parent, &beside, &parent, name)?;
            Ok(fs::fsync(&parent)?)
        };
        let done = written();
        if done.is_err() {
            let _ = fs::unlinkat(&parent, &beside, AtFlags::empty());
        }
        done.map_err(failed("cannot restore", path))
    }

    /// Another name of the file is on the disk as the backup has it: content, owner, mode and attributes.
    fn is_as_recorded(&self, path: &Path, entry: &Entry, sha256: &str) -> bool {
        let compare = || -> std::io::Result<bool> {
            let (file, now) = tree::open_below(self.root, path)?;
            let status = (now.st_uid, now.st_gid, now.st_mode & 0o7777);
            let present = tree::attributes(&file)?;
            Ok(status == (entry.uid, entry.gid, restored_mode(entry))
                && restored(&present).eq(restored(&entry.attributes))
                && tree::digest(file, &mut std::io::sink())?.sha256 == sha256)
        };
        compare().unwrap_or(false)
    }

    fn hard_link(&self, entry: &Entry, other: &Path) -> Result<(), Errno> {
        let (from, first) = tree::parent(self.root, other)?;
        let (parent, name) = tree::parent(self.root, entry.path.path())?;
        let beside = self.beside(&parent);
        fs::linkat(&from, first, &parent, &beside, AtFlags::empty())?;
        // Renaming over another name of the same file does nothing, and leaves this one.
        let done = fs::renameat(&parent, &beside, &parent, name).and_then(|()| fs::fsync(&parent));
        let _ = fs::unlinkat(&parent, &beside, AtFlags::empty());
        done
    }

    /// A free name in the directory of a file: HAProxy loads none that begins with a dot. A run that was killed may
    /// have left a file of this name if its pid was the same, as it is in a container.
    fn beside(&self, parent: &OwnedFd) -> String {
        self.counter.set(self.counter.get() + 1);
        let name = format!(".hhe-restore-{}-{}", std::process::id(), self.counter.get());
        let _ = fs::unlinkat(parent, &name, AtFlags::empty());
        name
    }

    /// Removes a file that has been copied into a backup.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        let done = tree::parent(self.root, path).and_then(|(parent, name)| {
            fs::unlinkat(&parent, name, AtFlags::empty())?;
            fs::fsync(&parent)
        });
        done.map_err(failed("cannot remove", path))
    }
}

fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanoseconds) = entry.modified;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

/// Gives an open file its owner, mode and attributes. The owner comes first: a change of it takes bits of the
/// mode away.
fn status(file: impl AsFd, entry: &Entry) -> Result<(), Errno> {
    let file = file.as_fd();
    let now = fs::fstat(file)?;
    if (now.st_uid, now.st_gid) != (entry.uid, entry.gid) {
        // Until its owner is right, no other user may read a file.
        fs::fchmod(file, Mode::from_raw_mode(now.st_mode & 0o700))?;
        fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    }
    fs::fchmod(file, Mode::from_raw_mode(restored_mode(entry)))?;
    let present = tree::attributes(file)?;
    let wanted: BTreeSet<&String> = restored(&entry.attributes).map(|(name, _)| name).collect();
    for (name, _) in restored(&present).filter(|(name, _)| !wanted.contains(name)) {
        fs::fremovexattr(file, name.as_str())?;
    }
    for (name, value) in restored(&entry.attributes) {
        if present.get(name) != Some(value) {
            let value = BASE64_STANDARD.decode(value).map_err(|_| Errno::INVAL)?;
            fs::fsetxattr(file, name.as_str(), &value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

fn link_status(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let now = fs::fstat(fs::openat(parent, name, flags, Mode::empty())?)?;
    if (now.st_uid, now.st_gid) != (entry.uid, entry.gid) {
        let (owner, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fs::chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
}
