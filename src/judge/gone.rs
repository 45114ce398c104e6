//! Judges services that have no process left: those that are configured or remembered.

use std::collections::{BTreeMap, BTreeSet};

use super::case::MOST_ENDPOINTS;
use super::finding::Judgement;
use super::identify::belonged_to;
use super::memory::{Memory, ServiceMemory};
use super::owners::Owners;
use super::rules::port_blocked::{self, WantedPorts};
use super::verdict::{Origin, ServiceVerdict, Verdict};
use super::{hold, rules};
use crate::model::{Details, Snapshot};
use crate::policy::kind::Kind;
use crate::policy::{Policy, Rules};

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
            let declared = places.endpoints(&configuration.ports).take(MOST_ENDPOINTS);
            let unbound = &declared.collect::<Vec<_>>();
            let wanted =
                WantedPorts { name, configuration, places, tcp_ports, unbound, owners, details };
            port_blocked::blocked_ports(&wanted, now)
        }
        None => Judgement::if_known(false, Vec::new()),
    };
    let (findings, known) = rules::sift([(Kind::PortBlocked, judgement)], rules);
    let judged = if overlooked {
        BTreeSet::new()
    } else {
        ServiceVerdict::absent(name, rules).judged.into_iter().chain(known).collect()
    };
    let grace = rules.stale_grace_seconds;
    (hold::hold(findings, &judged, &before.anomaly_states, false, grace, now.taken), judged)
}

fn observed(before: &ServiceMemory, began: &BTreeMap<Kind, u64>) -> BTreeMap<Kind, u64> {
    let mut observed = before.observed.clone();
    for (kind, began) in began {
        *observed.entry(*kind).or_default() += began;
    }
    observed
}

/// Adds the services that are gone: configured ones for ever, discovered ones until they are
/// forgotten. `lives` says whether a service of the sample continues the one of a name.
pub fn add(
    seen @ (now, _): (&Snapshot, &Details),
    memory: &Memory,
    policy: &Policy,
    owners: &Owners<'_>,
    lives: impl Fn(&str) -> bool,
    (verdict, remembered): (&mut Verdict, &mut Memory),
) {
    let present: BTreeSet<String> =
        verdict.services.iter().map(|service| service.name.clone()).collect();
    let hidden = now.gaps.may_hide_a_service();
    for (name, before) in &memory.services {
        let rules = policy.rules(name);
        let configured = policy.is_configured(name);
        let forgotten = now.taken - before.last_seen > rules.forget_after_seconds;
        if lives(name) || present.contains(name) || (forgotten && !configured) {
            continue;
        }
        let is_own = |id| belonged_to(name, id, &memory.processes);
        let may_have_lost = now.gaps.may_have_lost(is_own);
        let overlooked = now.gaps.torn || may_have_lost || (configured && hidden);
        let (outcome, judged) = judge_gone(name, before, rules, owners, seen, overlooked);
        let absent = if overlooked {
            ServiceVerdict::unknown(name, rules)
        } else {
            ServiceVerdict::absent(name, rules)
        };
        verdict.services.push(ServiceVerdict {
            anomalies: outcome.anomalies,
            judged,
            configuration: before.configuration.clone(),
            origin: if configured { Origin::Configured } else { Origin::Discovered },
            identity: before.identity.clone(),
            observed: observed(before, &outcome.began),
            reloads: before.reloads.seen.clone(),
            ..absent
        });
        let kept = ServiceMemory {
            anomaly_states: outcome.states,
            observed: observed(before, &outcome.began),
            ..before.clone()
        };
        remembered.services.insert(name.clone(), kept);
    }
    for configured in &policy.haproxys {
        let name = &configured.name;
        if !present.contains(name) && !remembered.services.contains_key(name) {
            let absent = if hidden || now.gaps.torn {
                ServiceVerdict::unknown
            } else {
                ServiceVerdict::absent
            };
            verdict.services.push(absent(name, &configured.rules));
        }
    }
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
}
