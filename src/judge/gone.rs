//! Judges services that have no process left: those that are configured or remembered.

use std::collections::{BTreeMap, BTreeSet};

use super::case::MOST_ENDPOINTS;
use super::finding::Judgement;
use super::identify::belonged_to;
use super::memory::{Memory, ServiceMemory};
use super::owners::Owners;
use super::rules::port_blocked::{self, Claim};
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
            let claim = Claim { name, configuration, places, tcp_ports, unbound, owners, details };
            port_blocked::blocked_ports(&claim, now)
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
/// forgotten. `lives`: a service of the sample continues the one of this name.
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
