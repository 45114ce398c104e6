//! By what a process is known to be superseded.

use crate::model::named::named;
use crate::model::{ProcessId, UnixSeconds};

named! {
    /// What shows that a process was superseded, the most certain first.
    pub enum Proof {
        /// A later process was told to replace it (`-sf`, `-st`), and could.
        Told = "told",
        /// It is an older worker of the same master, or its master was told to go.
        Master = "master",
        /// A later process was given the same pidfile by the same starter.
        Pidfile = "pidfile",
        /// A later process was started at the same place with the same arguments, and the
        /// configuration had changed in between.
        Place = "place",
    }
}

impl Proof {
    /// It needs no inference.
    #[must_use]
    pub fn is_certain(self) -> bool {
        matches!(self, Proof::Told | Proof::Master)
    }
}

/// How a process was superseded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Superseded {
    /// The process that shows it.
    pub by: ProcessId,
    /// What shows it.
    pub proof: Proof,
    /// Start of the earliest later process that has served.
    pub since: UnixSeconds,
}
