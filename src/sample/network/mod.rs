//! Reads the kernel's socket tables in every network namespace in which HAProxy may listen.

pub mod namespaces;
pub mod ports;
mod proc_net;
pub mod sockets;
pub mod sysctls;
pub mod tables;
pub mod uses;
pub mod wire;
