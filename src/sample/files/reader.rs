//! On whose behalf the files of a process may be shown.

use crate::haproxy::lineage::starter::starter;
use crate::sample::discovery::processes::Found;
use crate::sample::paths::access::Reader;

/// The user who started a process and the groups of that process, or root where it is proved that root
/// started it: it runs as root, its parent is a HAProxy of root's with the same program, or root's own
/// pidfile names it.
///
/// A daemon of root's that has given up its user id without any of these counts as its present user's.
#[must_use]
pub fn reader_of(found: &Found, all: &[Found]) -> Reader {
    if is_started_by_root(found, all) {
        return Reader::Root;
    }
    match found.process.users {
        Some(users) => {
            Reader::User { uid: users.real, groups: found.directory.groups().unwrap_or_default() }
        }
        None => Reader::Anyone,
    }
}

/// It is proved that root started a process.
#[must_use]
pub fn is_started_by_root(found: &Found, all: &[Found]) -> bool {
    let is_roots = |found: &Found| starter(&found.process, None) == Some(0);
    let executable = |found: &Found| found.process.executable.as_ref().map(|e| e.path.clone());
    let is_master = |other: &&Found| {
        other.process.id.pid == found.process.parent && executable(other) == executable(found)
    };
    is_roots(found) || all.iter().find(is_master).is_some_and(is_roots)
}
