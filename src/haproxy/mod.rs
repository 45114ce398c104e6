//! The knowledge of HAProxy: its command line, its environment, its configuration, its sockets, its
//! services and their generations. All of it is pure.

pub mod advice;
pub mod binding;
pub mod command_line;
pub mod config;
pub mod digest;
pub mod environment;
pub mod holder_label;
pub mod lineage;
pub mod listeners;
pub mod mask;
pub mod messages;
pub mod places;
pub mod versions;
