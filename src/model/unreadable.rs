//! Things that a sample could not read, each with the reason.

use super::named::named;
use super::shortened::{MOST_SHOWN, shortened};

named! {
    /// The kinds of things that can be unreadable (label `what`).
    pub enum What {
        /// A whole process.
        Process = "process",
        /// The descriptors of a process.
        Descriptors = "descriptors",
        /// The environment of a process.
        Environment = "environment",
        /// A table of sockets, or the kind of a socket.
        Sockets = "sockets",
        /// A namespace.
        Namespace = "namespace",
        /// A configuration file or pidfile.
        Config = "config",
    }
}

/// A thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// The kind of thing.
    pub what: What,
    /// The thing, as a person names it: `pid 4711`, a path.
    pub subject: String,
    /// The reason, with the missing right if that is known.
    pub reason: String,
}

impl Unreadable {
    /// The same as it is shown: both texts may hold names that a user has made very long.
    #[must_use]
    pub fn shown(&self) -> Unreadable {
        let cut = |text| shortened(text, MOST_SHOWN).into_owned();
        Unreadable { what: self.what, subject: cut(&self.subject), reason: cut(&self.reason) }
    }
}
