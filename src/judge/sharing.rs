//! Which services listen on a port on which another one listens too.

use std::collections::BTreeMap;

use super::case::{Case, PortSockets};
use super::verdict::PortKey;

/// The maximum number of other services with which a service of a user other than root is compared at each
/// port, because a user can have hundreds of services share hundreds of ports. A service of root's shares
/// no port with a user's: the kernel lets only sockets of one user share a port.
const MOST_OTHERS: usize = 20;

/// For each service that listens on a port on which another one listens too: where those others are,
/// ascending.
#[must_use]
pub fn sharing<'a>(
    ports: &'a [(&Case<'_>, Vec<PortSockets<'_>>)],
) -> BTreeMap<&'a str, Vec<usize>> {
    let held = ports.iter().enumerate();
    let held = held.flat_map(|(at, (_, ports))| ports.iter().map(move |port| (&port.key, at)));
    let mut held: Vec<(&PortKey, usize)> = held.collect();
    held.sort_unstable();
    held.dedup();
    let mut sharing: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for shared in held.chunk_by(|(one, _), (other, _)| one == other).filter(|all| all.len() > 1) {
        for (_, at) in shared {
            let Some((case, _)) = ports.get(*at) else { continue };
            let is_users = case.identity.untrusted_starter().is_some();
            let most = if is_users { MOST_OTHERS } else { usize::MAX };
            let others = shared.iter().map(|(_, other)| *other).filter(|other| other != at);
            sharing.entry(case.name.as_str()).or_default().extend(others.take(most));
        }
    }
    for others in sharing.values_mut() {
        others.sort_unstable();
        others.dedup();
    }
    sharing
}

#[cfg(test)]
mod tests {
    use super::MOST_OTHERS;
    use crate::judge::verdict::Verdict;
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    /// Services that all listen on one port, and each on one of its own.
    fn sharing(count: i32, user: u32) -> Verdict {
        let actors: Vec<Actor> = (0..count)
            .map(|number| {
                let line = format!("haproxy -D -f /{number:03}.cfg");
                let (port, inode) = (u16::try_from(number).unwrap() + 1000, number.unsigned_abs());
                let actor = actor(1000 + number, 100, &line).of_user(user);
                actor.tcp(80, u64::from(inode) + 1).tcp(port, u64::from(inode) + 1000)
            })
            .collect();
        Film::default().settle(1000.0, &actors)
    }

    fn splits(verdict: &Verdict) -> Vec<usize> {
        let of_kind = |kind| move |anomaly: &&crate::judge::verdict::Anomaly| anomaly.kind == kind;
        let services = verdict.services.iter();
        services.map(|s| s.anomalies.iter().filter(of_kind(Kind::PortSplit)).count()).collect()
    }

    #[test]
    fn services_of_a_user_that_share_a_port_with_all_others_are_cut_off() {
        assert_eq!(splits(&sharing(3, 65_534)), [2, 2, 2]);
        assert_eq!(splits(&sharing(130, 65_534)), [MOST_OTHERS; 130]);
        assert_eq!(splits(&sharing(130, 0)), [129; 130], "root's are all named");
    }
}
