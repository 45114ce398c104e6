//! Which processes are one service, and which of them serves.

pub mod cohorts;
pub mod generations;
pub mod identity;
pub mod member;
pub mod past;
pub mod roles;
pub mod services;
