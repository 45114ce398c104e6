//! Judges services that have no process left: those that are configured or remembered.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Judgement;
use super::last_holders::LastHolders;
use super::memory::{Memory, ServiceMemory};
use super::owners::Owners;
use super::rules::port_blocked::{self, WantedPorts};
use super::verdict::{Origin, ServiceVerdict, Verdict};
use super::{cause, hold, rules};
use crate::model::{Details, Snapshot};
use crate::policy::kind::Kind;
use crate::policy::{Policy, Rules};

/// The number of services of one user that are remembered while they are gone, unless that user is root. A
/// user can start and end HAProxys under new names without end.
const MOST_REMEMBERED: usize = 50;

/// Judges whether a service that is gone could start again: the only question that is left.
fn judge_gone(
    name: &str,
    before: &ServiceMemory,
    rules: &Rules,
    owners: &Owners<'_>,
    (now, details): (&Snapshot, &Details),
    overlooked: bool,
) -> (hold::Anomalies, BTreeSet<Kind>) {
    let configuration = before.configuration.as_deref().filter(|c| c.complete);
    let judgement = match configuration {
        Some(configuration) => {
            let (places, tcp_ports) = (&before.places, &before.tcp_ports);
            let mut declared = places.endpoints(&configuration.ports);
            let unbound = &declared.by_ref().take(before.most_endpoints()).collect::<Vec<_>>();
            let is_cut = declared.next().is_some();
            let wanted =
                WantedPorts { name, configuration, places, tcp_ports, unbound, owners, details };
            let mut judgement = port_blocked::blocked_ports(&wanted, now);
            judgement.complete &= !is_cut;
            judgement
        }
        None => Judgement::if_known(false, Vec::new()),
    };
    let (findings, known) = rules::sift([(Kind::PortBlocked, judgement)], rules, now.taken);
    let judged = if overlooked {
        BTreeSet::new()
    } else {
        ServiceVerdict::absent(name, rules).judged.into_iter().chain(known).collect()
    };
    let grace = rules.stale_grace_seconds;
    (hold::hold(findings, &judged, &before.anomaly_states, false, grace, now.taken), judged)
}

/// Adds the services that are gone: configured ones for ever, discovered ones until they are
/// forgotten. `living` are the names of those that a service of the sample continues.
pub fn add(
    seen @ (now, _): (&Snapshot, &Details),
    memory: &Memory,
    policy: &Policy,
    owners: &Owners<'_>,
    living: &BTreeSet<&str>,
    (verdict, remembered): (&mut Verdict, &mut Memory),
) {
    let hidden = now.gaps.may_hide_a_service();
    let too_many = too_many(memory, policy);
    let last_holders = LastHolders::of(&now.gaps, &memory.processes);
    for (name, before) in &memory.services {
        let rules = policy.rules(name);
        let configured = policy.is_configured(name);
        let forgotten = now.taken - before.last_seen > rules.forget_after_seconds;
        let forgotten = forgotten || too_many.contains(name.as_str());
        if living.contains(name.as_str()) || (forgotten && !configured) {
            continue;
        }
        let is_its = |user| before.is_of(user);
        let overlooked = now.gaps.is_torn_for(is_its)
            || last_holders.may_be_of(name, is_its)
            || (configured && hidden);
        let (outcome, judged) = judge_gone(name, before, rules, owners, seen, overlooked);
        let absent = if overlooked {
            ServiceVerdict::unknown(name, rules)
        } else {
            ServiceVerdict::absent(name, rules)
        };
        let observed = outcome.observed(before.observed.clone());
        verdict.services.push(ServiceVerdict {
            causes: cause::causes(name, &outcome.anomalies),
            anomalies: outcome.anomalies,
            judged,
            configuration: before.configuration.clone(),
            origin: if configured { Origin::Configured } else { Origin::Discovered },
            identity: before.identity.clone(),
            observed: observed.clone(),
            reloads: before.reloads.seen.clone(),
            ..absent
        });
        let states = outcome.states;
        let kept = ServiceMemory { anomaly_states: states, observed, ..before.clone() };
        remembered.services.insert(name.clone(), kept);
    }
    for configured in &policy.haproxys {
        let name = &configured.name;
        if !remembered.services.contains_key(name) {
            // It was never seen, so its processes may be any user's.
            let absent = if hidden || now.gaps.is_torn_for(|_| true) {
                ServiceVerdict::unknown
            } else {
                ServiceVerdict::absent
            };
            verdict.services.push(absent(name, &configured.rules));
        }
    }
}

/// The discovered services of users other than root that are forgotten early, because later ones of
/// the same user are remembered.
fn too_many<'m>(memory: &'m Memory, policy: &Policy) -> BTreeSet<&'m str> {
    let mut of_users: BTreeMap<u32, Vec<(f64, &str)>> = BTreeMap::new();
    for (name, before) in &memory.services {
        if let (Some(user), false) =
            (before.identity.untrusted_starter(), policy.is_configured(name))
        {
            of_users.entry(user).or_default().push((before.last_seen, name.as_str()));
        }
    }
    let surplus = of_users.into_values().flat_map(|mut of_user| {
        of_user.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        of_user.into_iter().skip(MOST_REMEMBERED)
    });
    surplus.map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use crate::model::PortRole;
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor, tcp_use};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const WANTED: &str = "frontend a\n bind :80\n";

    fn serving() -> Actor {
        actor(10, 100, LINE).configured(WANTED, 200).tcp(80, 1)
    }

    #[test]
    fn a_blocked_port_of_a_service_that_is_gone_is_found_until_it_is_forgotten() {
        let taken = [tcp_use(PortRole::Listening, "0.0.0.0:80", 5, 99)];
        let mut film = Film::default();
        film.see(1000.0, &[serving()]);
        film.see_uses(1010.0, &[], &taken);
        let verdict = film.see_uses(1030.0, &[], &taken);
        assert_eq!(verdict.one().up, Some(false));
        assert_eq!(verdict.one().findings(), ["port_blocked tcp 80 dnsmasq"]);
        assert_eq!(verdict.one().observed.get(&Kind::PortBlocked), Some(&1));
        let freed = film.see_uses(1040.0, &[], &[]);
        assert!(freed.one().findings().is_empty());
        assert!(film.see_uses(2000.0, &[], &taken).services.is_empty());
    }

    #[test]
    fn a_failing_start_does_not_interrupt_the_anomaly() {
        let taken = [tcp_use(PortRole::Listening, "0.0.0.0:80", 5, 99)];
        let mut film = Film::default();
        film.see(1000.0, &[serving()]);
        film.see_uses(1010.0, &[], &taken);
        film.see_uses(1030.0, &[], &taken);
        // The new process reads its files, and is dying in the next sample.
        let trying = || actor(20, 1034, LINE).configured(WANTED, 200);
        for actors in [vec![trying()], vec![actor(20, 1034, LINE)], vec![]] {
            let verdict = film.see_uses(1035.0, &actors, &taken);
            assert_eq!(verdict.one().findings(), ["port_blocked tcp 80 dnsmasq"]);
            assert_eq!(verdict.one().observed.get(&Kind::PortBlocked), Some(&1));
        }
    }

    #[test]
    fn a_user_cannot_fill_the_memory_with_services_that_are_gone() {
        let mut film = Film::default();
        let roots = || actor(1, 1, "haproxy -D -f /roots.cfg -p /run/roots").tcp(80, 1);
        film.see(1000.0, &[roots()]);
        for number in 0..200 {
            let line = format!("haproxy -D -f /a{number}.cfg -p /run/a{number}");
            let short = actor(10 + number, 900, &line).of_user(65534);
            film.see(1001.0 + f64::from(number), &[short.tcp(8000, 100)]);
        }
        let verdict = film.see(1300.0, &[]);
        let names: Vec<&str> =
            verdict.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names.len(), super::MOST_REMEMBERED + 1, "{names:?}");
        assert!(names.contains(&"roots") && names.contains(&"a199@65534"), "{names:?}");
        assert!(!names.contains(&"a0@65534"), "{names:?}");
    }
}
