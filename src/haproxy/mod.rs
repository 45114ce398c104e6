//! What `HAProxy` means: its configuration, command line, generations.

pub mod config;
