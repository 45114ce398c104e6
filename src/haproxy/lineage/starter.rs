//! The user who started a process, which after HAProxy's drop of rights is not the user it runs as.

use super::past::Past;
use crate::model::Process;
use crate::model::time::may_be_after;

const ROOT: u32 = 0;

/// The starter of a process that has no master: root where root's own pidfile names the process, or where
/// it was once seen to be root's; else the user it runs as. The starter of a worker is that of its master.
///
/// The real user id counts, because the effective one of a set-uid program belongs to another user. Neither
/// a parent of pid 1 nor the creator of its sockets proves anything: any user's daemon has the first, and
/// sockets can be handed on.
#[must_use]
pub fn starter(process: &Process, past: Option<&Past>) -> Option<u32> {
    let was_roots = past.is_some_and(|past| past.starter == Some(ROOT));
    if was_roots || is_named_by_root(process) {
        return Some(ROOT);
    }
    process.users.map(|users| users.real)
}

/// A pidfile that root alone can write was written after the process was started, and names it.
fn is_named_by_root(process: &Process) -> bool {
    let by_root = process.pidfile.as_ref().filter(|file| file.writer == Some(ROOT));
    let written = by_root.and_then(|pidfile| pidfile.modified);
    written.is_some_and(|written| may_be_after(written, process.started))
        && process.is_named_by_its_pidfile()
}
