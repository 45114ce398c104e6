//! What HAProxy means: its command line, its environment, its services and their generations.
//!
//! Pure: values in, values out.

pub mod binding;
pub mod command_line;
pub mod config;
pub mod environment;
pub mod lineage;
pub mod listeners;
pub mod places;
