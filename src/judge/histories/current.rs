//! Counts the reloads that an exporter has seen of one service. The campaign of `tests/campaign` counts by it, too.

use std::collections::{BTreeMap, BTreeSet};

/// The processes of a service that an exporter has called current, each with the names that it gave to its service.
pub type Current = BTreeMap<i32, BTreeSet<String>>;

/// The number of processes that were current in the service of this name, or in one that the same process was in under
/// another name. Without a pidfile, a process that was started after its predecessor had gone unseen is a service of its
/// own and is not counted here.
pub fn of_one_service(current: &Current, name: &str) -> usize {
    let mut names = BTreeSet::from([name]);
    loop {
        let is_known = |of: &&BTreeSet<String>| of.iter().any(|name| names.contains(&**name));
        let found: Vec<_> = current.values().filter(is_known).collect();
        let before = names.len();
        names.extend(found.iter().copied().flatten().map(String::as_str));
        if names.len() == before {
            return found.len();
        }
    }
}
