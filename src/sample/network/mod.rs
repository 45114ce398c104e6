//! The kernel's socket tables in every network namespace that matters.

pub mod namespaces;
pub mod ports;
pub mod sockets;
pub mod sysctls;
pub mod tables;
pub mod uses;
pub mod wire;
