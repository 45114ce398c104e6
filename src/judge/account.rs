//! Decides whose share of a bounded list an entry uses.
//!
//! Any local user can start many HAProxys that come and go. All services of one such user therefore share
//! one quota, as they do in the limits of the metrics.

use std::collections::BTreeMap;

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
        match service.identity.untrusted_starter() {
            Some(user) if service.origin != Origin::Configured => Account::User(user),
            _ => Account::Service(service.name.clone()),
        }
    }
}

/// The services that are configured or that root started, configured ones first; and those of other
/// users: the first of each user, then the second of each, and so on. They come sorted by name.
#[must_use]
pub fn by_precedence(services: &[ServiceVerdict]) -> (Vec<&ServiceVerdict>, Vec<&ServiceVerdict>) {
    let is_users = |service: &&ServiceVerdict| matches!(Account::of(service), Account::User(_));
    let (others, mut trusted): (Vec<_>, Vec<_>) = services.iter().partition(is_users);
    trusted.sort_by_key(|service| service.origin != Origin::Configured);
    let mut of_users: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    let mut numbered: Vec<(usize, &ServiceVerdict)> = Vec::new();
    for service in others {
        let earlier = of_users.entry(service.identity.untrusted_starter()).or_default();
        numbered.push((*earlier, service));
        *earlier += 1;
    }
    numbered.sort_by_key(|&(earlier, _)| earlier);
    (trusted, numbered.into_iter().map(|(_, service)| service).collect())
}
