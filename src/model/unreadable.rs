//! What a sample could not read, and what would help.

use super::named::named;

named! {
    /// Kinds of things that may be unreadable (label `what`).
    pub enum What {
        /// A process as a whole.
        Process = "process",
        /// A process's descriptors.
        Descriptors = "descriptors",
        /// A process's environment.
        Environment = "environment",
        /// A socket table, or what kind of socket one is.
        Sockets = "sockets",
        /// A namespace.
        Namespace = "namespace",
        /// A configuration file or pidfile.
        Config = "config",
    }
}

/// Something that could not be read, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// Which kind of thing.
    pub what: What,
    /// Which one, for a person: `pid 4711`, a path.
    pub subject: String,
    /// Why, and which right is missing where that is known.
    pub reason: String,
}
