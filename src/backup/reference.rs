//! What a line of a configuration names.

use std::path::PathBuf;

use super::manifest::Role;

/// A file or directory that a line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is for HAProxy.
    pub role: Role,
    /// HAProxy does not start without it.
    pub required: bool,
    /// The directory that HAProxy is in when it reads the file: relative names in it start there.
    pub read_in: PathBuf,
    /// The place of the line that names it.
    pub named_by: String,
}

/// A program or a file of the system that a line names, which no backup takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// Its path.
    pub path: PathBuf,
    /// Why it is not taken.
    pub why: &'static str,
}
