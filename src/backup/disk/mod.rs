//! The executor of backups: it reads what HAProxy reads, and writes backups and what is restored from them.
//!
//! Every write is relative to a directory that was opened without following links, so that no other user's
//! link diverts it, and goes beside its place first: written, synced, renamed, and the directory synced.

pub mod archive;
pub mod error;
pub mod gather;
pub mod kept;
pub mod layout;
pub mod libraries;
pub mod packages;
pub mod present;
pub mod restore;
pub mod sandbox;
pub mod stage;
pub mod store;
pub mod survey;
pub mod tree;
pub mod units;
