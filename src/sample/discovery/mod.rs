//! Finds the HAProxy processes of the host.

pub mod argument_allowance;
pub mod by_pidfile;
pub mod census;
pub mod process_cache;
pub mod processes;
pub mod root_view;
