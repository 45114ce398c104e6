//! Which processes of the host are HAProxys.

pub mod census;
pub mod lasting;
pub mod processes;
pub mod root_view;
