//! Watches HAProxy from the host: which processes and ports exist, which should not, and why.
//!
//! Data flows one way (see CONTRIBUTING.md): `config` → `sample` → [`model`] → `judge` →
//! `metrics` and `report` → `web` and `cmd`.

pub mod haproxy;
pub mod judge;
pub mod model;
pub mod sample;
