//! Groups the anomalies of a service by cause: one action fixes all anomalies of one cause.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::{Anomaly, Cause, PortKey, ServiceVerdict, Target};
use crate::policy::kind::{Kind, Severity};

/// The number of facts that a cause shows before it counts the rest.
const MOST_FACTS: usize = 8;

/// What the anomalies of one cause have in common: the target. Where the target is the service itself,
/// each kind needs an action of its own.
type Key<'a> = (&'a Target, Option<Kind>);

/// The causes of a service's anomalies, the worst first. Every anomaly belongs to exactly one.
#[must_use]
pub fn causes(service: &str, anomalies: &[Anomaly]) -> Vec<Cause> {
    let mut groups: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    for (index, anomaly) in anomalies.iter().enumerate() {
        let own = (anomaly.target == Target::Service).then_some(anomaly.kind);
        groups.entry((&anomaly.target, own)).or_default().push(index);
    }
    let mut causes: Vec<Cause> = groups
        .into_iter()
        .filter_map(|((target, _), indexes)| cause(service, target, anomalies, indexes))
        .collect();
    causes.sort_by(|a, b| {
        let rank = |cause: &Cause| (cause.pending, cause.severity, cause.kind.precedence());
        rank(a).cmp(&rank(b)).then_with(|| (&a.ports, &a.id).cmp(&(&b.ports, &b.id)))
    });
    causes
}

/// Drops the anomalies of a service that are not wanted, and gathers the causes of the others.
pub fn keep(service: &mut ServiceVerdict, is_wanted: impl Fn(&Anomaly) -> bool) {
    service.anomalies.retain(is_wanted);
    service.causes = causes(&service.name, &service.anomalies);
}

/// One cause; `None` without an anomaly.
fn cause(
    service: &str,
    target: &Target,
    anomalies: &[Anomaly],
    indexes: Vec<usize>,
) -> Option<Cause> {
    let members: Vec<&Anomaly> = indexes.iter().filter_map(|index| anomalies.get(*index)).collect();
    let mut kinds: Vec<Kind> = members.iter().map(|anomaly| anomaly.kind).collect();
    kinds.sort_by_key(|kind| kind.precedence());
    kinds.dedup();
    let kind = *kinds.first()?;
    let of_kind: Vec<&Anomaly> =
        members.iter().copied().filter(|anomaly| anomaly.kind == kind).collect();
    let ports: BTreeSet<&PortKey> =
        members.iter().filter_map(|anomaly| anomaly.subject.port.as_ref()).collect();
    Some(Cause {
        id: id(service, kind, target),
        kind,
        severity: kinds.iter().map(|kind| kind.severity()).min().unwrap_or(Severity::Info),
        kinds,
        pending: members.iter().all(|anomaly| anomaly.pending),
        since: members.iter().map(|anomaly| anomaly.since).fold(f64::INFINITY, f64::min),
        subject: subject(target, &of_kind),
        ports: ports.into_iter().cloned().collect(),
        anomalies: indexes,
        evidence: evidence(&of_kind),
        advice: of_kind.first()?.advice.clone(),
    })
}

/// What the action acts on, in words.
fn subject(target: &Target, anomalies: &[&Anomaly]) -> String {
    let first = anomalies.first();
    let holder = first.map(|anomaly| anomaly.subject.holder.as_str()).unwrap_or_default();
    match target {
        // Its holder is the parent, and the pid is that of the worker.
        Target::Process(id) if first.is_some_and(|a| a.kind == Kind::ProcessOrphan) => {
            format!("worker pid {}", id.pid)
        }
        Target::Service => String::new(),
        Target::Process(id) if holder.is_empty() => format!("pid {}", id.pid),
        Target::Process(id) => format!("{holder} pid {}", id.pid),
        Target::Holder(name) | Target::Connection(name, _) => name.clone(),
        Target::Parent(pid) => format!("{holder} pid {pid}"),
    }
}

/// The facts, each once and in the order in which they were given. A fact that is not true of every
/// port says of how many it is.
fn evidence(anomalies: &[&Anomaly]) -> Vec<String> {
    let mut facts: Vec<(&str, usize)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for fact in anomalies.iter().flat_map(|anomaly| &anomaly.evidence) {
        let place = *places.entry(fact).or_insert(facts.len());
        match facts.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => facts.push((fact, 1)),
        }
    }
    let all = anomalies.len();
    let left_out = facts.len().saturating_sub(MOST_FACTS);
    let shown = facts.into_iter().take(MOST_FACTS).map(|(fact, count)| {
        if count >= all { fact.to_owned() } else { format!("{fact} ({count} of {all})") }
    });
    let rest = (left_out > 0).then(|| format!("and {left_out} more facts"));
    shown.chain(rest).collect()
}

/// The identity of a cause: 12 hexadecimal digits of a SHA-256.
fn id(service: &str, kind: Kind, target: &Target) -> String {
    let acted_on = match target {
        Target::Service => String::new(),
        Target::Process(id) => format!("process {} {}", id.pid, id.start_ticks),
        Target::Holder(name) => format!("holder {name}"),
        Target::Connection(name, key) => {
            format!("connection {name} {} {} {} {}", key.protocol, key.address, key.port, key.netns)
        }
        Target::Parent(pid) => format!("parent {pid}"),
    };
    let text = format!("{service}\0{}\0{acted_on}", kind.as_str());
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(6).fold(0, |id, byte| id << 8 | u64::from(*byte));
    format!("{first:012x}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::haproxy::holder_label::STALE_HOLDER;
    use crate::judge::verdict::Subject;
    use crate::model::{ProcessId, Protocol};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    /// Each cause as `kind+kind subject ports`.
    fn in_words(causes: &[Cause]) -> Vec<String> {
        let words = |cause: &Cause| {
            let kinds: Vec<_> = cause.kinds.iter().map(|kind| kind.as_str()).collect();
            format!("{} {} {}", kinds.join("+"), cause.subject, cause.ports.len())
        };
        causes.iter().map(words).collect()
    }

    #[test]
    fn a_stale_process_is_one_cause_however_many_ports_it_has() {
        let ports = |actor: Actor, inodes: u16| {
            (0..300).fold(actor, |actor, n| actor.tcp(20_000 + n, u64::from(inodes + n)))
        };
        let old = ports(actor(10, 100, LINE), 1000);
        let new = actor(11, 200, &format!("{LINE} -sf 9")).tcp(80, 1);
        let mut film = Film::default();
        film.see(1000.0, &[old.clone(), new.clone()]);
        let verdict = film.see(1100.0, &[old, new]);
        let service: &ServiceVerdict = verdict.one();
        assert_eq!(in_words(&service.causes), ["port_stale_listener haproxy stale pid 10 300"]);
        let cause = &service.causes[0];
        assert_eq!(
            (cause.severity, cause.pending, cause.since),
            (Severity::Critical, false, 200.0)
        );
        assert_eq!(cause.advice, "kill -USR1 10: it closes its listeners and drains");
        assert!(cause.evidence.len() <= MOST_FACTS, "{:?}", cause.evidence);
        let later = Film::default().settle(
            2000.0,
            &[
                ports(actor(10, 100, LINE), 1000),
                actor(11, 200, &format!("{LINE} -sf 9")).tcp(80, 1),
            ],
        );
        assert_eq!(later.one().causes[0].id, cause.id, "as a restarted exporter sees it");
    }

    fn anomaly(kind: Kind, target: Target, port: Option<u16>, fact: &str) -> Anomaly {
        let port = port.map(|port| PortKey {
            protocol: Protocol::Tcp,
            address: [0, 0, 0, 0].into(),
            port,
            interface: "".into(),
            netns: "".into(),
        });
        Anomaly {
            kind,
            subject: Subject { port, holder: STALE_HOLDER.to_owned() },
            target,
            since: 5.0,
            pending: false,
            evidence: vec![fact.to_owned()],
            advice: format!("{} first", kind.as_str()),
        }
    }

    #[test]
    fn one_target_joins_kinds_and_the_service_does_not() {
        let process = || Target::Process(ProcessId { pid: 10, start_ticks: 7 });
        let all = [
            anomaly(Kind::PortStaleListener, process(), Some(80), "a"),
            anomaly(Kind::PortBlocked, process(), Some(81), "b"),
            anomaly(Kind::PortBlocked, process(), Some(82), "c"),
            anomaly(Kind::PortMissing, Target::Service, Some(83), "d"),
            anomaly(Kind::PortEphemeral, Target::Service, Some(84), "e"),
        ];
        let causes = causes("p", &all);
        let told = in_words(&causes);
        let expected = [
            "port_blocked+port_stale_listener haproxy stale pid 10 3",
            "port_missing  1",
            "port_ephemeral  1",
        ];
        assert_eq!(told, expected);
        assert_eq!(causes[0].evidence, ["b (1 of 2)", "c (1 of 2)"]);
        assert_eq!(causes[0].advice, "port_blocked first");
    }

    fn any_target() -> impl Strategy<Value = Target> {
        prop_oneof![
            Just(Target::Service),
            (1..4i32).prop_map(|pid| Target::Process(ProcessId { pid, start_ticks: 7 })),
            "[ab]".prop_map(Target::Holder),
            (1..3i32).prop_map(Target::Parent),
        ]
    }

    fn any_anomaly() -> impl Strategy<Value = Anomaly> {
        let kind = (0..Kind::ALL.len()).prop_map(|place| Kind::ALL[place]);
        let port = proptest::option::of(1..5u16);
        (kind, any_target(), port, "[xyz]", any::<bool>()).prop_map(
            |(kind, target, port, fact, pending)| Anomaly {
                pending,
                ..anomaly(kind, target, port, &fact)
            },
        )
    }

    proptest! {
        #[test]
        fn every_anomaly_belongs_to_exactly_one_cause(
            all in proptest::collection::vec(any_anomaly(), 0..40),
        ) {
            let causes = causes("p", &all);
            let mut places: Vec<usize> =
                causes.iter().flat_map(|cause| cause.anomalies.iter().copied()).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
            let ids: BTreeSet<&String> = causes.iter().map(|cause| &cause.id).collect();
            prop_assert_eq!(ids.len(), causes.len(), "no two have one id");
            for cause in &causes {
                let members = || cause.anomalies.iter().map(|place| &all[*place]);
                prop_assert!(members().any(|anomaly| anomaly.kind == cause.kind));
                prop_assert_eq!(cause.pending, members().all(|anomaly| anomaly.pending));
                prop_assert!(members().all(|a| cause.kind.precedence() <= a.kind.precedence()));
            }
        }
    }
}
