//! Files that HAProxys read: configurations and pidfiles.

pub mod allowance;
pub mod config_files;
pub mod configurations;
pub mod host_names;
pub mod pidfiles;
pub mod problem;
pub mod reader;
