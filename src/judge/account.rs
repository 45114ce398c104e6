//! Whose share of a bounded list an entry takes up.
//!
//! Any local user can start many HAProxys that come and go. All services of one such user therefore
//! have one share together, as in the limits of the metrics.

use super::verdict::{Origin, ServiceVerdict};

/// The owner of a share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// The exporter itself.
    Exporter,
    /// A service that is configured or that root started, by its name.
    Service(String),
    /// All other services of this user.
    User(u32),
}

impl Account {
    /// The owner of what is said of a service.
    #[must_use]
    pub fn of(service: &ServiceVerdict) -> Account {
        match service.identity.chosen_by() {
            Some(user) if service.origin != Origin::Configured => Account::User(user),
            _ => Account::Service(service.name.clone()),
        }
    }
}
