//! What is read only when a sample asks for it.

pub mod bind_trial;
pub mod connections;
pub mod port_uses;
pub mod programs;
