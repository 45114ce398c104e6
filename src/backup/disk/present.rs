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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: (u64, u64),
    size: i64,
    modified: (i64, u32),
    changed: (i64, i64),
}

impl Identity {
    fn of(stat: &Stat) -> Identity {
        Identity {
            inode: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            modified: tree::modified(stat),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }
}

impl Hashes {
    /// The hash of a file in a directory.
    fn of(&mut self, at: &OwnedFd, path: &Path) -> std::io::Result<String> {
        let name = path.file_name().unwrap_or_default();
        let found = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some((identity, hash)) = self.known.get(path)
            && *identity == Identity::of(&found)
        {
            return Ok(hash.clone());
        }
        let (file, stat) = tree::open_file(at, name)?;
        let hash = tree::digest(file, &mut std::io::sink())?.sha256;
        self.computed += 1;
        self.known.insert(path.to_owned(), (Identity::of(&stat), hash.clone()));
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
        match here.as_ref().map(|(_, opened)| opened) {
            Some(Ok(parent)) => match present(parent, path, hashes) {
                Ok(present) => drop(disk.present.insert(path.to_owned(), present)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => drop(disk.unread.insert(path.to_owned(), error.to_string())),
            },
            Some(Err(Errno::NOENT)) | None => {}
            Some(Err(error @ (Errno::LOOP | Errno::NOTDIR))) => {
                let what = blocked_by(root, above).unwrap_or_else(|| error.to_string());
                disk.blocked.insert(path.to_owned(), what);
            }
            Some(Err(error)) => {
                let why = std::io::Error::from(*error).to_string();
                disk.unread.insert(path.to_owned(), why);
            }
        }
    }
    for (left, _) in manifest.needed() {
        let path = left.path.path();
        let hash = tree::parent(root, path).map_err(std::io::Error::from);
        match hash.and_then(|(parent, _)| hashes.of(&parent, path)) {
            Ok(hash) => drop(disk.left_out.insert(path.to_owned(), hash)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => drop(disk.unread.insert(path.to_owned(), error.to_string())),
        }
    }
    added(root, manifest, &mut disk);
    added_beside_certificates(root, manifest, &mut disk);
    disk
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
        let listed = tree::descend(root, path).and_then(|opened| {
            let names = tree::names(&opened)?;
            Ok((opened, names))
        });
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
            let is_known = manifest.entry(&full).is_some()
                || manifest.left_out.iter().any(|left| left.path.path() == full);
            // HAProxy follows links, and loads neither directories nor sockets.
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let is_file = || {
                fs::openat(&opened, name, flags, Mode::empty()).and_then(fs::fstat).is_ok_and(
                    |stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
                )
            };
            if !is_known && is_file() {
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
        let is_known = manifest.entry(&path).is_some()
            || manifest.left_out.iter().any(|left| left.path.path() == path);
        let is_file = || {
            route::follow(root, &path).is_ok_and(|route| {
                FileType::from_raw_mode(route.stat.st_mode) == FileType::RegularFile
            })
        };
        if !is_known && is_file() {
            disk.added.insert(path);
        }
    }
}

/// Reads a file below `root`, if it is one.
pub fn content(root: &OwnedFd, path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let (parent, name) = tree::parent(root, path)?;
    tree::read(parent, name, most)
}
