//! Paths that other processes name: where each leads, who could have read what is there, and who could
//! have changed it.
//!
//! Every file whose name comes from a process (arguments, environment, configuration) is opened by
//! [`route`]. Nothing of such a file is shown unless [`access`] permits it.

pub mod access;
pub mod route;
pub mod writers;
