//! Looks at the backups of each service for the metrics.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Error, failed};
use super::present::{self, Hashes};
use super::store::Store;
use super::tree;
use crate::backup::differences;
use crate::backup::manifest::Manifest;
use crate::backup::state::{Compared, State, differs};

/// The state of the backups of these services. Files are read only if their size, time or inode has changed
/// since they were read for `hashes`.
pub fn survey(
    directory: &Path,
    services: &[String],
    hashes: &mut Hashes,
) -> Result<BTreeMap<String, State>, Error> {
    let all = Store::open(directory, false)?.list()?;
    let root = tree::open(Path::new("/")).map_err(failed("cannot open", Path::new("/")))?;
    let mut states = BTreeMap::new();
    for service in services {
        let own = all.iter().filter_map(|stored| Some((stored, stored.manifest.as_ref().ok()?)));
        let own: Vec<_> = own.filter(|(_, m)| m.haproxy == *service && !m.safety).collect();
        let verified = || own.iter().rev().filter(|(stored, _)| stored.verified.is_some());
        let mut compared = Vec::new();
        for (_, manifest) in verified() {
            compared.push(compare(&root, manifest, hashes));
            if compared.last() == Some(&Compared::Same) {
                break;
            }
        }
        let state = State {
            last_success: own.last().map(|(_, manifest)| manifest.taken),
            last_verified: verified().next().and_then(|(stored, _)| stored.verified_at()),
            differs: differs(&compared),
        };
        states.insert(service.clone(), state);
    }
    Ok(states)
}

fn compare(root: &std::os::fd::OwnedFd, manifest: &Manifest, hashes: &mut Hashes) -> Compared {
    if manifest.other_root {
        return Compared::Unknown;
    }
    let disk = present::look(root, manifest, hashes);
    let changed = differences::of(manifest, &disk);
    // What could not be read looks as if it were missing.
    let is_known = |path: &Path| !disk.unread.contains_key(path);
    let differs = changed.iter().any(|one| one.matters() && is_known(one.entry.path.path()))
        || differences::of_left_out(manifest, &disk).iter().any(|left| is_known(left.path.path()))
        || !disk.added.is_empty();
    match (differs, disk.unread.is_empty()) {
        (true, _) => Compared::Differs,
        (false, true) => Compared::Same,
        (false, false) => Compared::Unknown,
    }
}
