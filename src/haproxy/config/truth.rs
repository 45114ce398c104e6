//! The three values of a condition.

use super::variables::Reason;

/// The value of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Truth {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// The condition cannot be decided, for this reason.
    Unknown(Reason),
}

impl Truth {
    pub(super) fn of(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }

    pub(super) fn unknown(reason: impl Into<Reason>) -> Truth {
        Truth::Unknown(reason.into())
    }

    pub(super) fn negated(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown(reason) => Truth::Unknown(reason),
        }
    }

    pub(super) fn and(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::False, _) | (_, Truth::False) => Truth::False,
            (Truth::True, other) => other,
            (unknown, _) => unknown,
        }
    }

    pub(super) fn or(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::True, _) | (_, Truth::True) => Truth::True,
            (Truth::False, other) => other,
            (unknown, _) => unknown,
        }
    }
}
