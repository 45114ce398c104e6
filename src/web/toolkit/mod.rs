//! The web configuration of Prometheus' exporter-toolkit: TLS, client certificates, users, headers and
//! rate limit.

pub mod auth;
pub mod clients;
pub mod config;
pub mod names;
pub mod san;
pub mod security;
pub mod tls;
