//! Which processes of the host are HAProxys.

pub mod census;
pub mod process_cache;
pub mod processes;
pub mod root_view;
