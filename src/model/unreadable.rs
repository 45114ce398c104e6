//! What a sample could not read, and what would help.

/// Kinds of things that may be unreadable (label `what`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A process as a whole.
    Process,
    /// A process's descriptors.
    Descriptors,
    /// A process's environment.
    Environment,
    /// A socket table, or what kind of socket one is.
    Sockets,
    /// A namespace.
    Namespace,
    /// A configuration file or pidfile.
    Config,
}

impl What {
    /// Every value, in the order of the page.
    pub const ALL: [What; 6] = [
        What::Process,
        What::Descriptors,
        What::Environment,
        What::Sockets,
        What::Namespace,
        What::Config,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            What::Process => "process",
            What::Descriptors => "descriptors",
            What::Environment => "environment",
            What::Sockets => "sockets",
            What::Namespace => "namespace",
            What::Config => "config",
        }
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
