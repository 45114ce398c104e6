//! What the program is allowed to do: the few rights it reads the host with, and no others.
//!
//! Rights belong to threads, so they are dropped before there is a second one.

use rustix::io;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Rights that watching needs, where processes of others are watched.
const WATCHING: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    // Only whoever grants it has it: the unit does so in a drop-in, for foreign network namespaces.
    .union(CapabilitySet::SYS_ADMIN);

/// Each right that watching needs, and what cannot be seen without it.
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

/// Gives up every right that watching does not need, for good.
///
/// What the system refuses here was not held in the first place, or is dropped by the next step.
pub fn keep_for_watching() -> io::Result<()> {
    // For whatever this program might ever execute; it executes nothing.
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    // Needs CAP_SETPCAP, so before that goes; without it the set matters only to execve(2).
    for right in CapabilitySet::all().difference(WATCHING).iter() {
        let _ = remove_capability_from_bounding_set(right);
    }
    let _ = clear_ambient_capability_set();
    // The unit grants no more than that, and its filter has no capset(2).
    if WATCHING.contains(held.permitted) {
        return Ok(());
    }
    let keep = held.permitted.intersection(WATCHING);
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: none })
}

/// The rights that watching all processes of the host needs and that are missing: name, and what
/// cannot be seen without.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing = NEEDS.into_iter().filter(|(right, ..)| !held.contains(*right));
    missing.map(|(_, name, unseen)| (name, unseen)).collect()
}
