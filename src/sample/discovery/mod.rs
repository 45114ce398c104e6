//! Which processes of the host are HAProxys.

pub mod by_pidfile;
pub mod census;
pub mod process_cache;
pub mod processes;
pub mod root_view;
