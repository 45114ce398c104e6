//! Writes one backup beside the others, and gives it its name when it is whole.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, RenameFlags};
use rustix::io::Errno;

use super::archive;
use super::error::{Error, failed};
use super::layout::{
    ARCHIVE, FILES, MANIFEST, MANIFEST_HASH, PARTIAL, VARIABLES, hash_line, variables_text,
};
use super::store::Store;
use super::tree;
use crate::backup::manifest::{Entry, Kind, Manifest};

/// The maximum number of files that are synced one by one; for more, the whole file system is synced.
const MOST_SYNCED: usize = 500;

/// A backup that is being written. It is removed when it is dropped before it has got its name.
#[derive(Debug)]
pub struct Stage<'a> {
    store: &'a Store,
    partial: String,
    directory: OwnedFd,
    files: OwnedFd,
    written: usize,
}

impl<'a> Stage<'a> {
    /// Begins a backup of this name.
    pub fn begin(store: &'a Store, name: &str) -> Result<Stage<'a>, Error> {
        let partial = format!(".{name}{PARTIAL}{}", std::process::id());
        let path = store.path.join(&partial);
        let opened = fs::mkdirat(&store.directory, &partial, tree::PRIVATE_DIRECTORY)
            .and_then(|()| tree::enter(&store.directory, &partial))
            .and_then(|directory| {
                fs::mkdirat(&directory, FILES, tree::PRIVATE_DIRECTORY)?;
                let files = tree::enter(&directory, FILES)?;
                Ok((directory, files))
            });
        let (directory, files) = opened.map_err(failed("cannot make", &path))?;
        Ok(Stage { store, partial, directory, files, written: 0 })
    }

    /// Copies the bytes of a file from below `root`. Returns whether they were those that the entry says.
    pub fn copy(&mut self, root: &OwnedFd, entry: &Entry) -> Result<bool, Error> {
        let Kind::File { size, sha256, same_as: None, .. } = &entry.kind else { return Ok(true) };
        let path = entry.path.path();
        let (from, stat) = match tree::open_below(root, path) {
            Ok(opened) => opened,
            // It was replaced or removed since it was found.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(failed("cannot read", path)(error)),
        };
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let to = tree::descend_making(&self.files, path.parent().unwrap_or(Path::new("/")));
        let to = to.map_err(failed("cannot write the copy of", path))?;
        let mut copy = tree::create(&to, name).map_err(failed("cannot write the copy of", path))?;
        let digest = tree::digest(from, &mut copy).map_err(failed("cannot copy", path))?;
        self.written += 1;
        if self.written <= MOST_SYNCED {
            copy.sync_all().map_err(failed("cannot write the copy of", path))?;
        }
        Ok(digest.sha256 == *sha256
            && digest.size == *size
            && tree::modified(&stat) == entry.modified)
    }

    /// Writes the manifest and gives the backup its name.
    pub fn commit(
        self,
        manifest: &Manifest,
        variables: &BTreeMap<String, String>,
        as_archive: bool,
    ) -> Result<(), Error> {
        let path = self.store.path.join(&manifest.name);
        let written = self.describe(manifest, variables).and_then(|()| self.sync());
        written.map_err(failed("cannot write", &path))?;
        let store = &self.store.directory;
        let (from, to) = if as_archive {
            let partial = format!(".{}{ARCHIVE}{PARTIAL}{}", manifest.name, std::process::id());
            let packed = archive::pack(store, &partial, &self.directory);
            if packed.is_err() {
                let _ = fs::unlinkat(store, &partial, fs::AtFlags::empty());
            }
            packed.map_err(failed("cannot write", &path))?;
            (partial, format!("{}{ARCHIVE}", manifest.name))
        } else {
            (self.partial.clone(), manifest.name.clone())
        };
        let named = fs::renameat_with(store, &from, store, &to, RenameFlags::NOREPLACE)
            .and_then(|()| fs::fsync(store));
        named.map_err(failed("cannot name", &path))
    }

    fn describe(
        &self,
        manifest: &Manifest,
        variables: &BTreeMap<String, String>,
    ) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(manifest)?;
        tree::write(&self.directory, VARIABLES, &variables_text(variables)?)?;
        tree::write(&self.directory, MANIFEST_HASH, hash_line(&text).as_bytes())?;
        tree::write(&self.directory, MANIFEST, &text)
    }

    fn sync(&self) -> io::Result<()> {
        if self.written > MOST_SYNCED {
            return Ok(fs::syncfs(&self.directory)?);
        }
        sync_directories(&self.files)?;
        Ok(fs::fsync(&self.directory)?)
    }
}

fn sync_directories(directory: &OwnedFd) -> io::Result<()> {
    for name in tree::names(directory)? {
        match tree::enter(directory, &name) {
            Ok(inner) => sync_directories(&inner)?,
            Err(Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(fs::fsync(directory)?)
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // It is gone when it has got its name. What is left after a failure, the next run sweeps away.
        let _ = tree::remove(&self.store.directory, self.partial.as_ref());
    }
}
