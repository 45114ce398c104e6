//! Finds the directory of backups, and the backup that a name means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::answer::Stopped;
use crate::backup::disk::error::Error as DiskError;
use crate::backup::disk::store::{Store, Stored};
use crate::backup::manifest::Manifest;
use crate::cli::Options;
use crate::cmd::Error;

/// The directory of backups.
pub fn directory(options: &Options, to: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(to) = to {
        return Ok(to.to_owned());
    }
    let policy = crate::cmd::load(options.config_file.as_deref())?.policy;
    policy.backup_directory.ok_or(Error::NoBackupDirectory)
}

/// What `latest` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latest {
    /// The newest that is whole.
    Complete,
    /// The newest that was verified.
    Verified,
}

/// Finds the backup that a name means.
pub fn named(
    store: &Store,
    name: &str,
    haproxy: Option<&str>,
    latest: Latest,
) -> Result<String, Stopped> {
    if name != "latest" {
        return Ok(name.to_owned());
    }
    let all = store.list()?;
    let is_wanted = |(stored, manifest): &(&Stored, &Manifest)| {
        !manifest.safety
            && haproxy.is_none_or(|haproxy| manifest.haproxy == haproxy)
            && (latest == Latest::Complete || stored.verified.is_some())
    };
    let usable = all.iter().filter_map(|stored| Some((stored, stored.manifest.as_ref().ok()?)));
    let wanted: Vec<_> = usable.filter(is_wanted).collect();
    let mut services: Vec<&str> = wanted.iter().map(|(_, m)| m.haproxy.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    if services.len() > 1 {
        let services = services.join(", ");
        return Err(Stopped::Usage(Error::BackupName(format!(
            "latest could be a backup of {services}; give --haproxy, or the name of the backup"
        ))));
    }
    let why = match latest {
        Latest::Complete => "there is no backup",
        Latest::Verified => "no backup is verified; give the name of one",
    };
    let none = || DiskError::Altered { name: "latest".to_owned(), why: why.to_owned() };
    Ok(wanted.last().map(|(stored, _)| stored.name.clone()).ok_or_else(none)?)
}

/// The services that have backups.
pub fn services(store: &Store) -> Result<Vec<String>, DiskError> {
    let all = store.list()?;
    let manifests = all.iter().filter_map(|stored| stored.manifest.as_ref().ok());
    let whole = manifests.filter(|manifest| !manifest.safety);
    let services: BTreeSet<String> = whole.map(|manifest| manifest.haproxy.clone()).collect();
    Ok(services.into_iter().collect())
}
