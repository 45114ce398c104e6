//! Which processes are one service, and which of them serves.

mod candidates;
pub mod cohorts;
pub mod generations;
pub mod grouping;
mod history;
pub mod identity;
mod leftovers;
pub mod member;
pub mod naming;
pub mod past;
mod pids;
mod profile;
pub mod proof;
pub mod remembered;
pub mod roles;
mod service;
pub mod services;
mod sets;
pub mod starter;
