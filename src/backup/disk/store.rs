//! The directory of backups: which there are, the lock, the free space, and their removal.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FlockOperation, OFlags};
use rustix::io::Errno;

use super::archive;
use super::error::{Error, failed};
use super::layout::{
    ARCHIVE, LOCK, MANIFEST, MANIFEST_HASH, MOST_MANIFEST, PARTIAL, VARIABLES, VERIFIED, Variables,
    hash_line,
};
use super::tree;
use crate::backup::manifest::{Manifest, Verified};
use crate::backup::names;
use crate::sample::paths::route;
use crate::sample::paths::writers::are_only_of;

/// The directory of backups.
#[derive(Debug)]
pub struct Store {
    /// Its path.
    pub path: PathBuf,
    /// Opened for reading.
    pub directory: OwnedFd,
}

/// A locked directory; the lock ends with it.
#[derive(Debug)]
#[must_use]
pub struct Lock(#[allow(dead_code)] OwnedFd);

/// The form in which a backup lies in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A directory.
    Directory,
    /// An archive.
    Archive,
}

/// One backup in the directory, as far as its manifest says.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its form.
    pub form: Form,
    /// Its manifest, or why it cannot be used.
    pub manifest: Result<Manifest, String>,
    /// The hash of the manifest.
    pub manifest_sha256: String,
    /// When it was verified; `None` if it never was, or was changed since.
    pub verified: Option<Verified>,
}

impl Stored {
    /// The last time that it was verified.
    #[must_use]
    pub fn verified_at(&self) -> Option<i64> {
        self.verified.as_ref()?.programs.last().map(|by| by.timestamp)
    }
}

/// A backup whose files can be read.
#[derive(Debug)]
pub struct Backup {
    /// What its manifest says.
    pub stored: Stored,
    /// Its manifest.
    pub manifest: Manifest,
    /// The directory that has its files.
    pub directory: OwnedFd,
    /// The path of that directory.
    pub path: PathBuf,
    /// The values of variables.
    pub variables: BTreeMap<String, String>,
    /// It was unpacked for this, and is removed afterwards.
    _unpacked: Option<archive::Unpacked>,
}

impl Store {
    /// Opens the directory, which no user but root and the caller may be able to change. `make`: makes it
    /// if it is missing.
    pub fn open(path: &Path, make: bool) -> Result<Store, Error> {
        let path = std::path::absolute(path).map_err(failed("cannot find", path))?;
        if make {
            let directory = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            directory.map_err(failed("cannot make", &path))?;
        }
        let root = Path::new("/");
        let root = route::open_root(root).map_err(failed("cannot open", root))?;
        let route =
            route::follow(&root, &path).map_err(|dead| failed("cannot open", &path)(dead.errno))?;
        let caller = rustix::process::geteuid().as_raw();
        if !are_only_of(&route.steps, true, caller) {
            return Err(Error::Untrusted { path });
        }
        let directory = route.open(OFlags::RDONLY | OFlags::DIRECTORY);
        let directory = directory.map_err(failed("cannot open", &path))?;
        Ok(Store { path, directory })
    }

    /// Locks it against other runs that write.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.directory, LOCK, flags, tree::PRIVATE_FILE);
        let file = file.map_err(failed("cannot open", &path))?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::Locked { path: self.path.clone() }),
            Err(error) => Err(failed("cannot lock", &path)(error)),
        }
    }

    /// Fails unless there is room for this number of bytes.
    pub fn has_room(&self, needed: u64) -> Result<(), Error> {
        let stat = fs::fstatvfs(&self.directory).map_err(failed("cannot measure", &self.path))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < needed {
            return Err(Error::NoSpace { path: self.path.clone(), needed, free });
        }
        Ok(())
    }

    /// Every backup, oldest first. What was never finished is not among them.
    pub fn list(&self) -> Result<Vec<Stored>, Error> {
        let listed = tree::names(&self.directory).map_err(failed("cannot list", &self.path))?;
        let mut all = Vec::new();
        for entry in listed.iter().filter_map(|name| name.to_str()) {
            let (name, form) = match entry.strip_suffix(ARCHIVE) {
                Some(name) => (name, Form::Archive),
                None => (entry, Form::Directory),
            };
            if names::is_name(name) {
                all.push(self.stored(name, form));
            }
        }
        all.sort_by_key(|stored| {
            let taken = stored.manifest.as_ref().map_or(0, |manifest| manifest.taken);
            (taken, stored.name.clone())
        });
        Ok(all)
    }

    fn stored(&self, name: &str, form: Form) -> Stored {
        let text = match form {
            Form::Directory => manifest_text(&self.directory, name),
            Form::Archive => archive::manifest_text(&self.directory, name),
        };
        let (manifest, manifest_sha256) = match text {
            Ok((text, hash)) => (parsed(&text, &hash, name), tree::sha256(&text)),
            Err(error) => (Err(format!("its manifest cannot be read: {error}")), String::new()),
        };
        let verified = self.verified(name, form).filter(|verified| {
            manifest.is_ok()
                && verified.manifest_sha256 == manifest_sha256
                && !verified.programs.is_empty()
        });
        Stored { name: name.to_owned(), form, manifest, manifest_sha256, verified }
    }

    fn verified(&self, name: &str, form: Form) -> Option<Verified> {
        let (directory, file) = self.record_of(name, form).ok()?;
        serde_json::from_slice(&tree::read(directory, file, 1 << 20).ok()?).ok()
    }

    /// The directory that has the record of a verification, and the name of the record there.
    fn record_of(&self, name: &str, form: Form) -> Result<(OwnedFd, String), Errno> {
        match form {
            Form::Directory => Ok((tree::enter(&self.directory, name)?, VERIFIED.to_owned())),
            Form::Archive => Ok((tree::enter(&self.directory, ".")?, format!("{name}.{VERIFIED}"))),
        }
    }

    /// Opens a backup; an archive is unpacked beside the backups first.
    pub fn backup(&self, name: &str) -> Result<Backup, Error> {
        let unknown = || Error::Unknown { path: self.path.clone(), name: name.to_owned() };
        if !names::is_name(name) {
            return Err(unknown());
        }
        let form = match tree::enter(&self.directory, name) {
            Ok(_) => Form::Directory,
            Err(_) if tree::open_file(&self.directory, format!("{name}{ARCHIVE}")).is_ok() => {
                Form::Archive
            }
            Err(Errno::NOENT) => return Err(unknown()),
            Err(error) => return Err(failed("cannot open", &self.path.join(name))(error)),
        };
        let stored = self.stored(name, form);
        let altered = |why: String| Error::Altered { name: name.to_owned(), why };
        let manifest = stored.manifest.clone().map_err(altered)?;
        let (unpacked, entry) = match form {
            Form::Directory => (None, name.to_owned()),
            Form::Archive => {
                self.has_room(manifest.bytes() + (1 << 20))?;
                let unpacked = archive::unpack(&self.directory, &self.path, name)?;
                let entry = unpacked.name.clone();
                (Some(unpacked), entry)
            }
        };
        let path = self.path.join(&entry);
        let directory =
            tree::enter(&self.directory, &entry).map_err(failed("cannot open", &path))?;
        let variables = read_variables(&directory).map_err(altered)?;
        Ok(Backup { stored, manifest, directory, path, variables, _unpacked: unpacked })
    }

    /// Records that a backup was verified, or that it is no longer known to be.
    pub fn record(&self, stored: &Stored, verified: Option<&Verified>) -> Result<(), Error> {
        let path = self.path.join(&stored.name);
        let record = self.record_of(&stored.name, stored.form);
        let (directory, file) = record.map_err(failed("cannot open", &path))?;
        let Some(verified) = verified else {
            return match fs::unlinkat(&directory, &file, fs::AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(failed("cannot remove", &path.join(&file))(error)),
            };
        };
        let text = serde_json::to_vec_pretty(verified).map_err(failed("cannot write", &path))?;
        tree::replace(&directory, &file, &text).map_err(failed("cannot write", &path.join(&file)))
    }

    /// Removes a backup. It is renamed first, so that half of it is never taken for a backup.
    pub fn remove(&self, stored: &Stored) -> Result<(), Error> {
        let (entry, beside) = match stored.form {
            Form::Directory => (stored.name.clone(), None),
            Form::Archive => {
                (format!("{}{ARCHIVE}", stored.name), Some(format!("{}.{VERIFIED}", stored.name)))
            }
        };
        let path = self.path.join(&entry);
        let away = format!(".{entry}{PARTIAL}removed-{}", std::process::id());
        let done = fs::renameat(&self.directory, &entry, &self.directory, &away)
            .and_then(|()| fs::fsync(&self.directory))
            .and_then(|()| tree::remove(&self.directory, away.as_ref()));
        done.map_err(failed("cannot remove", &path))?;
        if let Some(beside) = beside {
            let _ = fs::unlinkat(&self.directory, &beside, fs::AtFlags::empty());
        }
        Ok(())
    }

    /// Removes what earlier runs did not finish. The caller holds the lock.
    pub fn sweep(&self) -> Result<(), Error> {
        let listed = tree::names(&self.directory).map_err(failed("cannot list", &self.path))?;
        for name in listed {
            let is_partial = name.to_str().is_some_and(|name| {
                name.strip_prefix('.').and_then(|name| name.split_once(PARTIAL)).is_some_and(
                    |(name, _)| names::is_name(name.strip_suffix(ARCHIVE).unwrap_or(name)),
                )
            });
            if is_partial {
                tree::remove(&self.directory, &name)
                    .map_err(failed("cannot remove", &self.path.join(&name)))?;
            }
        }
        Ok(())
    }
}

fn manifest_text(at: &OwnedFd, name: &str) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let directory = tree::enter(at, name)?;
    let text = tree::read(&directory, MANIFEST, MOST_MANIFEST)?;
    Ok((text, tree::read(&directory, MANIFEST_HASH, 4096)?))
}

fn parsed(text: &[u8], hash: &[u8], name: &str) -> Result<Manifest, String> {
    if hash != hash_line(text).as_bytes() {
        return Err("its manifest was changed, or is damaged".to_owned());
    }
    let manifest: Manifest = serde_json::from_slice(text)
        .map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if manifest.name != name {
        return Err(format!("it is called {} in its manifest", manifest.name));
    }
    manifest.fault().map_or(Ok(manifest), Err)
}

fn read_variables(directory: &OwnedFd) -> Result<BTreeMap<String, String>, String> {
    let text = tree::read(directory, VARIABLES, MOST_MANIFEST);
    let text = text.map_err(|error| format!("{VARIABLES} cannot be read: {error}"))?;
    let damaged = || format!("{VARIABLES} was changed, or is damaged");
    // The reason could quote a value.
    let read: Variables = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let own = serde_json::to_vec(&read.variables).map_err(|_| damaged())?;
    if tree::sha256(&own) == read.sha256 { Ok(read.variables) } else { Err(damaged()) }
}
