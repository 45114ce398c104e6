//! The web configuration file of Prometheus' exporter-toolkit.

pub mod auth;
pub mod clients;
pub mod config;
pub mod names;
pub mod san;
pub mod security;
pub mod tls;
