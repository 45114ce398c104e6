//! Lets a thread see the files of a backup in the places that they had, and none of the disk's in their stead.
//!
//! The thread gets a mount namespace and a root directory of its own: an empty file system with the files of
//! the backup, and what a program needs of the system (its libraries, `/dev`, `/proc`, the lists of users
//! and hosts). What the backup does not have is not there, so that what runs is the proof of the backup.
//! The namespace ends with the thread and with what it has started.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount,
};
use rustix::thread::UnshareFlags;

use super::layout::FILES;
use super::store::Backup;
use super::tree;
use crate::backup::manifest::{Kind, Manifest, PathText};

/// What a program may see of the system.
const SYSTEM: [&str; 38] = [
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/libexec",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/share",
    "/nix/store",
    "/gnu/store",
    "/dev",
    "/proc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki",
    "/run/systemd/resolve",
];
/// Where the files of the backup are seen inside.
const INSIDE: &str = "/.backup";

/// Why a backup cannot be seen in its places.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount namespace needs a right.
    #[error(
        "running HAProxy from the copy needs a mount namespace, and so root (CAP_SYS_ADMIN): {0}"
    )]
    NoNamespace(io::Error),
    /// It could not be built.
    #[error("the copy cannot be put in its place: {0}")]
    NotBuilt(io::Error),
    /// What is left out of the backup is not on the disk as it was.
    #[error("left out of the backup, and not on the disk as it was: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    LeftOut(Vec<PathText>),
}

/// Does the work on a thread that sees the backup. `visible`: further directories that it may see of the
/// disk. Also answers which files were left out of the backup and were taken from the disk.
pub fn inside<T: Send>(
    backup: &Backup,
    visible: &BTreeSet<PathBuf>,
    work: impl FnOnce() -> T + Send,
) -> Result<(T, Vec<PathText>), Error> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let from_disk = enter(backup, visible)?;
            Ok((work(), from_disk))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(backup: &Backup, visible: &BTreeSet<PathBuf>) -> Result<Vec<PathText>, Error> {
    let kept = left_out(&backup.manifest)?;
    // It takes no memory away from another thread: this one has neither shared descriptors nor handlers to
    // lose, only its view of the file systems.
    #[allow(deprecated)] // the other name of it is unsafe for CLONE_FILES, which is not used
    rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::FS)
        .map_err(|error| Error::NoNamespace(error.into()))?;
    build(backup, visible, &kept).map_err(Error::NotBuilt)?;
    Ok(kept.into_keys().map(PathText).collect())
}

/// Reads what was left out from the disk, if it is there as it was.
fn left_out(manifest: &Manifest) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
    let root = tree::open(Path::new("/")).map_err(|error| Error::NotBuilt(error.into()))?;
    let mut kept = BTreeMap::new();
    let mut missing = Vec::new();
    for (left, hash) in manifest.needed() {
        let path = left.path.path();
        let mut bytes = Vec::new();
        let read = tree::open_below(&root, path)
            .map_err(io::Error::from)
            .and_then(|(file, _)| tree::digest(file, &mut bytes));
        if read.is_ok_and(|digest| digest.sha256 == hash) {
            kept.insert(path.to_owned(), bytes);
        } else {
            missing.push(left.path.clone());
        }
    }
    if missing.is_empty() { Ok(kept) } else { Err(Error::LeftOut(missing)) }
}

fn build(
    backup: &Backup,
    visible: &BTreeSet<PathBuf>,
    kept: &BTreeMap<PathBuf, Vec<u8>>,
) -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    // Opened in the new namespace, because mounts of another one cannot be bound.
    let place = &backup.path;
    let files = tree::open(&place.join(FILES))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", place, "tmpfs", flags, Some(c"mode=0700"))?;
    let mut builder = Builder {
        manifest: &backup.manifest,
        kept,
        root: place,
        system: SYSTEM.iter().map(PathBuf::from).chain(visible.iter().cloned()).collect(),
        children: BTreeMap::new(),
        copies: BTreeSet::new(),
    };
    builder.learn();
    let inside = builder.at(Path::new(INSIDE));
    fs::create_dir(&inside)?;
    bind(&files, &inside)?;
    builder.directory(Path::new("/"))?;
    rustix::process::chroot(place)?;
    Ok(rustix::process::chdir("/")?)
}

fn bind(source: &OwnedFd, to: &Path) -> io::Result<()> {
    mount_bind(format!("/proc/self/fd/{}", source.as_raw_fd()), to)?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(to, read_only, "")?)
}

struct Builder<'a> {
    manifest: &'a Manifest,
    kept: &'a BTreeMap<PathBuf, Vec<u8>>,
    root: &'a Path,
    /// What may be seen of the disk.
    system: Vec<PathBuf>,
    /// The names that must be in a directory.
    children: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// The directories with something of the backup below them.
    copies: BTreeSet<PathBuf>,
}

impl Builder<'_> {
    fn learn(&mut self) {
        let copied = self.manifest.entries.iter().map(|entry| entry.path.path());
        let copied: Vec<PathBuf> =
            copied.chain(self.kept.keys().map(PathBuf::as_path)).map(Path::to_owned).collect();
        for path in &copied {
            self.copies.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
        for path in copied.iter().chain(&self.system.clone()) {
            let mut here = path.as_path();
            while let (Some(parent), Some(name)) = (here.parent(), here.file_name()) {
                self.children.entry(parent.to_owned()).or_default().insert(name.to_owned());
                here = parent;
            }
        }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn is_of_system(&self, path: &Path) -> bool {
        self.system.iter().any(|own| path.starts_with(own))
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        let mut names = self.children.get(path).cloned().unwrap_or_default();
        if self.is_of_system(path) {
            // A directory of the backup may be missing on the disk.
            let listed = fs::read_dir(path).into_iter().flatten().flatten();
            names.extend(listed.map(|entry| entry.file_name()));
        }
        names.iter().try_for_each(|name| self.place(&path.join(name)))
    }

    fn place(&self, path: &Path) -> io::Result<()> {
        let to = self.at(path);
        if let Some(bytes) = self.kept.get(path) {
            return fs::File::create_new(to)?.write_all(bytes);
        }
        match self.manifest.entry(path).map(|entry| &entry.kind) {
            Some(Kind::Link { target }) => symlink(target.path(), to),
            Some(Kind::File { same_as, .. }) => {
                let kept = same_as.as_ref().map_or(path, PathText::path);
                let inside = Path::new(INSIDE).join(kept.strip_prefix("/").unwrap_or(kept));
                symlink(inside, to)
            }
            Some(Kind::Directory { .. }) | None
                if self.is_of_system(path) && !self.copies.contains(path) =>
            {
                show(path, &to)
            }
            Some(Kind::Directory { .. }) | None => {
                fs::create_dir(&to)?;
                self.directory(path)
            }
        }
    }
}

/// Shows what the disk has here.
fn show(path: &Path, to: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        return symlink(fs::read_link(path)?, to);
    }
    if found.is_dir() {
        fs::create_dir(to)?;
    } else {
        fs::File::create_new(to)?;
    }
    Ok(mount_bind_recursive(path, to)?)
}
