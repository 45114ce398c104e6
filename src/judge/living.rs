//! Judges a service that has processes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::{self, Case, PortSockets};
use super::memory::ServiceMemory;
use super::owners::Owners;
use super::rules::input::RuleInput;
use super::verdict::{Origin, ServiceVerdict};
use super::{cause, ending, hold, queues, reload_count, rules};
use crate::haproxy::lineage::generations::Generation;
use crate::model::{Configuration, Headroom, Protocol};

/// Judges one service; returns what to show and what to remember. `ports` are its own sockets,
/// `others` those of each service that shares a port with another one, by name.
pub fn judge(
    case: &Case<'_>,
    ports: &[PortSockets<'_>],
    others: &[(&str, &[PortSockets<'_>])],
    owners: &Owners<'_>,
    before: Option<&ServiceMemory>,
    first_sample: bool,
) -> (ServiceVerdict, ServiceMemory) {
    let now = case.snapshot.taken;
    // Only a name from the configuration begins new counters. A discovered service keeps its counters when its name
    // changes.
    let is_renamed = case.origin == Origin::Configured
        && case.remembered_as.as_ref().is_some_and(|name| *name != case.name);
    let renamed = before.filter(|_| is_renamed).map(ServiceMemory::with_counters_from_zero);
    let before = renamed.as_ref().or(before);
    let no_drops = queues::Drops::default();
    let (drops, dropping) = queues::count(before.map_or(&no_drops, |before| &before.drops), ports);
    let input = RuleInput { case, ports, others, dropping: &dropping, owners };
    let (findings, judged) = rules::judge(&input);
    let nothing = hold::AnomalyStates::new();
    let states = before.map_or(&nothing, |before| &before.anomaly_states);
    let outcome =
        hold::hold(findings, &judged, states, first_sample, case.rules.stale_grace_seconds, now);
    let observed = outcome.observed(before.map(|b| b.observed.clone()).unwrap_or_default());
    let reloads = reload_count::count(before.map(|before| &before.reloads), case);
    let memory = ServiceMemory {
        identity: case.identity.clone(),
        mark: case.mark.clone(),
        users: users(case, before),
        first_seen: before.map_or(now, |before| before.first_seen),
        last_seen: now,
        has_served: before.is_some_and(|before| before.has_served)
            || case.generations.up == Some(true)
            || !case.generations.superseded.is_empty(),
        anomaly_states: outcome.states,
        observed: observed.clone(),
        reloads: reloads.clone(),
        drops: drops.clone(),
        udp_ports: Arc::clone(&case.udp_ports),
        tcp_ports: Arc::clone(&case.tcp_ports),
        configuration: last_complete(case, before),
        loaded: case.now_loaded(),
        places: case.places.clone(),
    };
    let known = case.living(Generation::Unknown).next().is_none();
    let verdict = ServiceVerdict {
        name: case.name.clone(),
        origin: case.origin,
        identity: case.identity.clone(),
        up: case.generations.up,
        processes: ending::with_endings(case, ports),
        generations: known.then_some(case.generations.count),
        generation_start: case.serving().map(|member| member.process.started).reduce(f64::min),
        configuration: case.configuration.clone(),
        ports: case::ports(ports, &drops.totals),
        protocols_known: Protocol::ALL
            .into_iter()
            .filter(|&protocol| {
                let known = |generation| case.listeners_known(protocol, generation);
                Generation::ALL.into_iter().all(known)
            })
            .collect(),
        causes: cause::causes(&case.name, &outcome.anomalies),
        anomalies: outcome.anomalies,
        judged,
        observed,
        reloading: ending::reload_under_way(case, &reloads.seen),
        reloads: reloads.seen,
        headroom: headroom(case),
        ..ServiceVerdict::absent(&case.name, case.rules)
    };
    (verdict, memory)
}

/// The users that its processes run as, and those that they ran as.
fn users(case: &Case<'_>, before: Option<&ServiceMemory>) -> BTreeSet<u32> {
    let now = case.service.members.iter().filter_map(|member| member.process.users);
    let now = now.flat_map(|users| [users.real, users.effective, users.saved]);
    now.chain(before.iter().flat_map(|before| before.users.iter().copied())).collect()
}

/// The configuration to remember. A dying process may show only a part of it, so the last complete
/// one is preferred.
fn last_complete(case: &Case<'_>, before: Option<&ServiceMemory>) -> Option<Arc<Configuration>> {
    let now = case.configuration.as_ref();
    let known = before.and_then(|before| before.configuration.as_ref());
    now.filter(|configuration| configuration.complete).or(known).or(now).cloned()
}

/// The smallest of what is left on the host and in the cgroup of each process.
fn headroom(case: &Case<'_>) -> Headroom {
    let snapshot = case.snapshot;
    let cgroups = case.service.members.iter().filter_map(|m| m.process.cgroup.as_ref());
    let limits: Vec<Headroom> = cgroups
        .filter_map(|cgroup| snapshot.cgroups.get(cgroup).copied())
        .chain([snapshot.host])
        .collect();
    Headroom {
        memory_bytes: limits.iter().filter_map(|limit| limit.memory_bytes).min(),
        pids: limits.iter().filter_map(|limit| limit.pids).min(),
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::Verdict;
    use crate::policy::kind::Kind;
    use crate::policy::{Configured, Match, Policy, Rules};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    /// Successful reloads, dropped connections and anomalies that began.
    fn counters(verdict: &Verdict) -> (&str, u64, Option<u64>, u64) {
        let service = verdict.one();
        let observed = service.observed.get(&Kind::PortBacklog).copied().unwrap_or(0);
        (&service.name, service.reloads.successes, service.ports[0].drops, observed)
    }

    /// Some databases take the first value of a counter for an increase.
    #[test]
    fn counters_begin_at_0_when_a_service_is_first_seen_and_under_a_new_name() {
        let first = |drops| -> [Actor; 1] {
            let mut actor = actor(10, 1, LINE).tcp(80, 1);
            actor.bound[0].drops = Some(drops);
            [actor]
        };
        let second = || -> [Actor; 1] {
            let mut actor = actor(20, 1025, &format!("{LINE} -sf 10")).tcp(80, 2);
            actor.bound[0].drops = Some(2);
            [actor]
        };
        let mut film = Film::default();
        assert_eq!(counters(&film.see(1000.0, &first(900))), ("p", 0, Some(0), 0));
        assert_eq!(counters(&film.see(1010.0, &first(901))), ("p", 0, Some(1), 0));
        assert_eq!(counters(&film.see(1020.0, &first(902))), ("p", 0, Some(2), 1));
        assert_eq!(counters(&film.see(1030.0, &second())), ("p", 1, Some(4), 1));
        let matching = Match { config: Some("/a.cfg".into()), ..Match::default() };
        let entry = Configured { name: "lb".to_owned(), matching, rules: Rules::default() };
        film.policy = Policy { haproxys: vec![entry], ..Policy::default() };
        assert_eq!(counters(&film.see(1040.0, &second())), ("lb", 0, Some(0), 0));
        assert_eq!(counters(&film.see(1050.0, &second())), ("lb", 0, Some(0), 0));
    }

    /// Twins from one file. The older one comes back and takes the plain name, which the other had meanwhile.
    #[test]
    fn a_discovered_service_keeps_its_counters_under_another_name() {
        let twin = |pid: i32, port: u16, list: &str| {
            let line = format!("haproxy -D -f /a.cfg {list}");
            let serving = actor(pid, 100, &line).tcp(port, pid.unsigned_abs().into());
            let text = "frontend f\n bind :\"${PORT}\"\n";
            serving.configured(text, 50).variable("PORT", &port.to_string())
        };
        let reloaded = || twin(21, 82, "-sf 20");
        let mut film = Film::default();
        film.settle(1000.0, &[twin(20, 82, "")]);
        let alone = film.settle(1050.0, &[reloaded()]);
        assert_eq!((alone.one().name.as_str(), alone.one().reloads.successes), ("a", 1));
        let both = film.settle(1100.0, &[twin(10, 81, ""), reloaded()]);
        let counted = |name: &str| {
            let known: Vec<_> = both.services.iter().filter(|one| one.name == name).collect();
            (known[0].processes[0].id.pid, known[0].reloads.successes)
        };
        let other = both.services.iter().find(|one| one.name != "a").unwrap();
        assert_eq!(counted("a"), (10, 0));
        assert_eq!(counted(&other.name), (21, 1));
    }
}
