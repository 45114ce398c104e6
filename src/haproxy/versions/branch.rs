//! A branch of HAProxy: all versions that begin with the same two numbers.

use std::fmt;

use crate::haproxy::config::Version;

/// A branch of HAProxy, such as 2.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Branch {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
}

impl Branch {
    /// The branch that a version belongs to.
    #[must_use]
    pub fn of(version: &Version) -> Branch {
        let (major, minor, _) = version.numbers();
        Branch { major, minor }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
