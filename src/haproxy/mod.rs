//! What HAProxy means: its command line, its environment, its services and their generations.
//!
//! Pure: values in, values out.

pub mod command_line;
pub mod config;
pub mod environment;
pub mod generations;
pub mod listeners;
pub mod names;
pub mod past;
pub mod places;
pub mod roles;
pub mod services;
pub mod units;
