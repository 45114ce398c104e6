//! The capabilities of the program: it keeps the few that reading the host needs and drops all others.
//!
//! Capabilities belong to threads, so they are dropped before there is a second thread.

use rustix::io;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// The capabilities that watching other users' processes needs.
const WATCHING: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    // Granted by a drop-in of the unit only, to enter foreign network namespaces.
    .union(CapabilitySet::SYS_ADMIN);

/// Each capability that watching needs, with what cannot be read without it.
const NEEDS: [(CapabilitySet, &str, &str); 2] = [
    (
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "executables, directories, namespaces and sockets of other users' processes",
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        "CAP_DAC_READ_SEARCH",
        "descriptors, environment and configuration of other users' processes",
    ),
];

/// Drops every capability that watching does not need, permanently.
pub fn keep_for_watching() -> io::Result<()> {
    keep(WATCHING)
}

/// Drops every capability that watching and signalling do not need, permanently.
pub fn keep_for_reaping() -> io::Result<()> {
    keep(WATCHING.union(CapabilitySet::KILL))
}

/// A capability that the kernel refuses to drop was not held, or is dropped by the next step.
fn keep(needed: CapabilitySet) -> io::Result<()> {
    // For programs that this one might execute; `serve` and `inspect` execute none.
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    // This needs CAP_SETPCAP and so comes first. Without it the set matters only for execve(2).
    for right in CapabilitySet::all().difference(needed).iter() {
        let _ = remove_capability_from_bounding_set(right);
    }
    let _ = clear_ambient_capability_set();
    // Under the unit nothing is left to drop, and its filter of system calls forbids capset(2).
    if needed.contains(held.permitted) {
        return Ok(());
    }
    let keep = held.permitted.intersection(needed);
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: none })
}

/// Returns the missing capabilities, each with what cannot be read without it.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing = NEEDS.into_iter().filter(|(right, ..)| !held.contains(*right));
    missing.map(|(_, name, unseen)| (name, unseen)).collect()
}
