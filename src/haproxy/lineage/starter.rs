//! The user who started a process, which after HAProxy's drop of rights is not the user it runs as.

use super::past::Past;
use crate::model::{PidfileContent, Process};

/// A pidfile's date and a start time are compared no closer than this.
const SLACK_SECONDS: f64 = 1.0;
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
    let Some(pidfile) = process.pidfile.as_ref().filter(|file| file.writer == Some(ROOT)) else {
        return false;
    };
    let PidfileContent::Pids(pids) = &pidfile.content else { return false };
    let since = process.started - SLACK_SECONDS;
    pids.contains(&process.own_pid()) && pidfile.modified.is_some_and(|at| at >= since)
}
