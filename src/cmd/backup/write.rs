//! Writes what was collected as one backup.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::backup::disk::error::Error as DiskError;
use crate::backup::disk::gather::Gathered;
use crate::backup::disk::stage::Stage;
use crate::backup::disk::store::Store;
use crate::backup::manifest::{Command, Kind, Manifest, Program, VERSION};
use crate::backup::names;

/// The block in which a file takes disk space; the manifest takes an eighth of it for each entry.
const BLOCK: u64 = 4096;
/// The room for the manifest of an empty backup.
const ROOM: u64 = 64 << 10;

/// What was collected, and about what.
pub struct Content<'a> {
    /// The service.
    pub haproxy: &'a str,
    /// It holds what a restore replaces.
    pub safety: bool,
    /// It is not of this root.
    pub other_root: bool,
    /// How the service was started.
    pub command: Command,
    /// The program.
    pub program: Program,
    /// The values of variables.
    pub variables: BTreeMap<String, String>,
    /// The files.
    pub gathered: Gathered,
}

/// Writes a backup from below `root`. The caller holds the lock. With [`DiskError::Changed`] a file is not what
/// it was when it was found, and the backup may be begun anew.
pub fn write(
    store: &Store,
    root: &OwnedFd,
    content: Content<'_>,
    as_archive: bool,
) -> Result<Manifest, DiskError> {
    let mut taken = super::answer::now();
    let known: Vec<String> = store.list()?.into_iter().map(|stored| stored.name).collect();
    while known.contains(&names::name(content.haproxy, taken)) {
        taken += 1;
    }
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let manifest = Manifest {
        version: VERSION,
        name: names::name(content.haproxy, taken),
        haproxy: content.haproxy.to_owned(),
        taken,
        hostname,
        exporter: env!("CARGO_PKG_VERSION").to_owned(),
        safety: content.safety,
        other_root: content.other_root,
        command: content.command,
        program: content.program,
        entries: content.gathered.entries.into_values().collect(),
        left_out: content.gathered.left_out,
    };
    store.has_room(needed(&manifest) * if as_archive { 2 } else { 1 })?;
    let mut stage = Stage::begin(store, &manifest.name)?;
    for entry in &manifest.entries {
        if !stage.copy(root, entry)? {
            return Err(DiskError::Changed { path: entry.path.0.clone() });
        }
    }
    stage.commit(&manifest, &content.variables, as_archive)?;
    Ok(manifest)
}

/// The bytes that a backup takes.
fn needed(manifest: &Manifest) -> u64 {
    let sizes = manifest.entries.iter().map(|entry| match &entry.kind {
        Kind::File { size, same_as: None, .. } => size.next_multiple_of(BLOCK) + BLOCK / 8,
        _ => BLOCK / 8,
    });
    sizes.sum::<u64>() + ROOM
}
