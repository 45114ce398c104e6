//! Reads the files of one process in procfs.

pub mod cgroups;
pub mod descriptors;
pub mod dir;
pub mod error;
pub mod own;
pub mod status;
