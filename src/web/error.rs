//! Why the program cannot serve, and what to do about it.

use std::io;

/// Why the program cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is malformed, in use, or needs a right: choose another.
    #[error("cannot listen on {address:?}: {source}; {remedy}")]
    Bind {
        /// The address as given.
        address: String,
        /// The error of the system.
        source: io::Error,
        /// What the caller can do.
        remedy: &'static str,
    },
    /// `--web.systemd-socket` was given without sockets: start the program by its socket unit.
    #[error(
        "systemd handed over no socket; start the socket unit, or leave out --web.systemd-socket"
    )]
    NothingHandedOver,
    /// A socket handed over is not a TCP listener: `ListenStream=` with a port makes one.
    #[error("socket {number} handed over by systemd: {source}; ListenStream= takes ADDRESS:PORT")]
    HandedOver {
        /// Its number, from 0.
        number: usize,
        /// The error of the system.
        source: io::Error,
    },
    /// The asynchronous runtime could not be started.
    #[error("cannot serve: {0}")]
    Runtime(#[from] io::Error),
}
