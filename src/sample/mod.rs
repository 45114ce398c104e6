//! Looks at the host.

pub mod config_files;
