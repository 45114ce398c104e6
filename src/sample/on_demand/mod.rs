//! Reads details that are too expensive for every sample, when a sample or a person asks for them.

pub mod bind_trial;
pub mod connections;
pub mod executable;
pub mod executables;
pub mod host_names;
pub mod port_uses;
pub mod programs;
pub mod traffic;
