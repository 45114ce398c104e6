//! Backups of what HAProxy reads: what belongs to one, what differs from it, and what a person may see of it.
//!
//! Everything here is pure. [`disk`] is the executor: it alone reads and writes.
//!
//! | question | file |
//! |---|---|
//! | what is in a backup | `manifest.rs`, `names.rs` |
//! | which files a configuration names | `references.rs`, `bases.rs`, `crt_list.rs`, `scripts.rs` |
//! | does a file hold a private key | `keys.rs` |
//! | what differs from the disk, and what a restore would do | `differences.rs` |
//! | which lines differ | `lines.rs` |
//! | which backups are removed | `retention.rs` |
//! | what the metrics say | `state.rs` |

pub mod bases;
mod calls;
pub mod companions;
pub mod crt_list;
pub mod differences;
pub mod disk;
pub mod keys;
pub mod lines;
pub mod manifest;
pub mod names;
pub mod reference;
pub mod references;
pub mod retention;
pub mod scripts;
pub mod state;
