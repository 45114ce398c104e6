//! The facts that one sample saw on the host, as plain values without opinions.
//!
//! A fact that could not be read is `None` and has an entry in [`Snapshot::unreadable`]. The names
//! below are for other modules; the files of this one import from each other.

mod configuration;
pub mod declared;
mod gaps;
mod host;
pub(crate) mod named;
mod network;
pub mod numbers;
pub mod port_index;
pub mod port_use;
mod process;
pub mod shortened;
mod snapshot;
mod socket;
pub mod time;
mod traffic;
mod unreadable;

pub use self::configuration::Configuration;
pub use self::gaps::Gaps;
pub use self::host::{Headroom, OwnProcess};
pub use self::network::{NamespaceId, NetworkNamespace};
pub use self::port_use::{PortRole, PortUse, Program};
pub use self::process::{
    Environment, Executable, OtherNetworks, Pidfile, PidfileContent, Process, ProcessId, Signals,
    UserIds,
};
pub use self::snapshot::{CollectorRun, Details, Snapshot};
pub use self::socket::{BoundSocket, Connection, ConnectionState, Protocol, SocketInode};
pub use self::time::UnixSeconds;
pub use self::traffic::Traffic;
pub use self::unreadable::{Unreadable, What};
