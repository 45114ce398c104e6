//! Why the program cannot serve, and what to do about it.

use std::io;

/// Why the program cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address means nothing, is in use, or needs a right: choose another.
    #[error("cannot listen on {address:?}: {source}; {remedy}")]
    Bind {
        /// What was given.
        address: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// `--web.systemd-socket`, and no sockets: start it by its socket unit.
    #[error(
        "systemd handed over no socket; start the socket unit, or leave out --web.systemd-socket"
    )]
    NothingHandedOver,
    /// A socket handed over is no TCP listener: ListenStream= with a port makes one.
    #[error("socket {number} handed over by systemd: {source}; ListenStream= takes ADDRESS:PORT")]
    HandedOver {
        /// Which, from 0.
        number: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime could not be made.
    #[error("cannot serve: {0}")]
    Runtime(#[from] io::Error),
}
