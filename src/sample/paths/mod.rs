//! Paths that other processes name: where each leads, who could have read what is there, and who could
//! have changed it.
//!
//! Every file whose name comes from a process (arguments, environment, configuration) is opened by
//! [`route`]. Nothing of such a file is shown unless [`access`] permits it.
//!
//! A byte of a file can reach an output in these ways, all of which begin in `sample/files/`:
//!
//! - a configuration (`config_files`): addresses, ports, interfaces and namespaces as labels of declared
//!   and missing ports and as evidence of `config_not_loaded`; its `pidfile` as a label and as the
//!   name of the service; its words in the messages of `check`, never in those of `serve`;
//! - a directory of configurations (`config_files`): the names in it, before the number of a line;
//! - a pidfile (`pidfiles`): the pids in it, as evidence of `pidfile_mismatch`;
//! - why a file cannot be read (`problem`): whether there is such a file.
//!
//! Each goes to `/metrics`, `/`, `/state.json`, the log, `inspect` or `check`. The test
//! `tests/trust/secrets.rs` drives secrets through every one of them.

pub mod access;
pub mod route;
pub mod writers;
