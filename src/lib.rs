//! Watches HAProxy from the host: which processes and ports exist, which should not, and why.
//!
//! Data flows one way (see CONTRIBUTING.md): [`config`] → [`sample`] → [`model`] → [`judge`] →
//! [`metrics`] and [`report`] → [`web`] and [`cmd`].

pub mod backup;
pub mod build_info;
pub mod check;
pub mod cli;
pub mod cmd;
pub mod config;
pub mod haproxy;
pub mod judge;
pub mod metrics;
pub mod model;
pub mod policy;
pub mod reap;
pub mod report;
pub mod rights;
pub mod sample;
pub mod watch;
pub mod web;
pub mod yaml;

#[cfg(test)]
#[allow(missing_docs, clippy::must_use_candidate, clippy::missing_panics_doc)] // only for tests
mod readings;
#[cfg(test)]
#[allow(missing_docs, clippy::must_use_candidate, clippy::missing_panics_doc)] // only for tests
mod stage;
