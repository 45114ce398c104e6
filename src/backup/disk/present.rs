//! Looks at what is on the disk under the paths of a backup.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::tree;
use crate::backup::companions::companions;
use crate::backup::differences::{Disk, Present, What};
use crate::backup::manifest::{Kind, Manifest, Role};
use crate::sample::paths::route;

/// The hashes of files, kept as long as size, time, inode and device of the file stay the same.
#[derive(Debug, Default)]
pub struct Hashes {
    known: BTreeMap<PathBuf, (Identity, String)>,
    /// How many files were read since it was made.
    pub computed: usize,
}

/// Device and inode, size, and when it was last modified and changed.
type Identity = ((u64, u64), i64, (i64, u32), (i64, i64));

fn identity(stat: &Stat) -> Identity {
    let changed = (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
    ((stat.st_dev, stat.st_ino), stat.st_size, tree::modified(stat), changed)
}

impl Hashes {
    /// The hash of a file in a directory.
    fn of(&mut self, at: &OwnedFd, path: &Path) -> std::io::Result<String> {
        let name = path.file_name().unwrap_or_default();
        let found = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some((known, hash)) = self.known.get(path)
            && *known == identity(&found)
        {
            return Ok(hash.clone());
        }
        let (file, stat) = tree::open_file(at, name)?;
        let hash = tree::digest(file, &mut std::io::sink())?.sha256;
        self.computed += 1;
        self.known.insert(path.to_owned(), (identity(&stat), hash.clone()));
        Ok(hash)
    }
}

/// What is on the disk below `root` under the paths of a backup.
#[must_use]
pub fn look(root: &OwnedFd, manifest: &Manifest, hashes: &mut Hashes) -> Disk {
    let mut disk = Disk::default();
    let mut here: Option<(PathBuf, Result<OwnedFd, Errno>)> = None;
    for entry in &manifest.entries {
        let path = entry.path.path();
        let above = path.parent().unwrap_or(Path::new("/"));
        // The entries of one directory mostly follow one another.
        if here.as_ref().is_none_or(|(known, _)| known != above) {
            here = Some((above.to_owned(), tree::descend(root, above)));
        }
        let found = match here.as_ref().map(|(_, opened)| opened) {
            Some(Ok(parent)) => present(parent, path, hashes),
            Some(Err(error @ (Errno::LOOP | Errno::NOTDIR))) => {
                let what = blocked_by(root, above).unwrap_or_else(|| error.to_string());
                disk.blocked.insert(path.to_owned(), what);
                continue;
            }
            Some(Err(error)) => Err((*error).into()),
            None => continue,
        };
        note(path, found, &mut disk.present, &mut disk.unread);
    }
    for (left, _) in manifest.needed() {
        let path = left.path.path();
        let parent = tree::parent(root, path).map_err(std::io::Error::from);
        let hash = parent.and_then(|(parent, _)| hashes.of(&parent, path));
        note(path, hash, &mut disk.left_out, &mut disk.unread);
    }
    added(root, manifest, &mut disk);
    added_beside_certificates(root, manifest, &mut disk);
    disk
}

/// Notes what was found under a path, or why it could not be read; nothing if it is not there.
fn note<T>(
    path: &Path,
    found: std::io::Result<T>,
    seen: &mut BTreeMap<PathBuf, T>,
    unread: &mut BTreeMap<PathBuf, String>,
) {
    match found {
        Ok(found) => drop(seen.insert(path.to_owned(), found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => drop(unread.insert(path.to_owned(), error.to_string())),
    }
}

/// The first step of a path that is a link or no directory.
fn blocked_by(root: &OwnedFd, path: &Path) -> Option<String> {
    let mut so_far = PathBuf::from("/");
    let mut here = tree::enter(root, ".").ok()?;
    for name in tree::steps(path) {
        so_far.push(name);
        if let Ok(next) = tree::enter(&here, name) {
            here = next;
            continue;
        }
        let stat = fs::statat(&here, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let what = if is_link { "a link now" } else { "no directory now" };
        return Some(format!("{} is {what}", so_far.display()));
    }
    None
}

fn present(parent: &OwnedFd, path: &Path, hashes: &mut Hashes) -> std::io::Result<Present> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let mut stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mut attributes = BTreeMap::new();
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let (file, opened) = tree::open_file(parent, name)?;
            stat = opened;
            attributes = tree::attributes(&file)?;
            What::File { sha256: hashes.of(parent, path)? }
        }
        FileType::Symlink => {
            let target = fs::readlinkat(parent, name, Vec::new())?;
            What::Link { target: std::ffi::OsStr::from_bytes(target.as_bytes()).into() }
        }
        FileType::Directory => {
            if let Ok(opened) = tree::enter(parent, name) {
                attributes = tree::attributes(&opened)?;
            }
            What::Directory
        }
        _ => What::Special,
    };
    Ok(Present {
        what,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: tree::modified(&stat),
        attributes,
        inode: (stat.st_dev, stat.st_ino),
    })
}

/// The names that HAProxy would load from its directories and that the backup does not know.
fn added(root: &OwnedFd, manifest: &Manifest, disk: &mut Disk) {
    for entry in &manifest.entries {
        let Kind::Directory { loads: Some(loads), .. } = &entry.kind else { continue };
        let path = entry.path.path();
        let listed = tree::descend(root, path)
            .and_then(|opened| tree::names(&opened).map(|names| (opened, names)));
        let (opened, listed) = match listed {
            Ok(listed) => listed,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => {
                let why = std::io::Error::from(error).to_string();
                disk.unread.insert(path.to_owned(), why);
                continue;
            }
        };
        for name in listed.iter().filter(|name| loads.takes(name.as_bytes())) {
            let full = path.join(name);
            // HAProxy follows links, and loads neither directories nor sockets.
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let is_file = || {
                let found = fs::openat(&opened, name, flags, Mode::empty()).and_then(fs::fstat);
                found.is_ok_and(|stat| tree::is_file(&stat))
            };
            if !manifest.knows(&full) && is_file() {
                disk.added.insert(full);
            }
        }
    }
}

/// The files that HAProxy would load beside a certificate and that the backup does not know.
fn added_beside_certificates(root: &OwnedFd, manifest: &Manifest, disk: &mut Disk) {
    let certificates = manifest.entries.iter().filter(|entry| {
        matches!(entry.kind, Kind::File { .. }) && entry.roles.contains(&Role::Certificate)
    });
    for path in certificates.flat_map(|entry| companions(entry.path.path())) {
        let is_file = || route::follow(root, &path).is_ok_and(|route| tree::is_file(&route.stat));
        if !manifest.knows(&path) && is_file() {
            disk.added.insert(path);
        }
    }
}

/// Reads a file below `root`, if it is one.
pub fn content(root: &OwnedFd, path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let (parent, name) = tree::parent(root, path)?;
    tree::read(parent, name, most)
}
