//! The rules: one file and one function for each kind, and the precedence between them.

mod binary_outdated;
mod config_not_loaded;
mod explain;
pub mod input;
mod pidfile_mismatch;
mod port_backlog;
pub mod port_blocked;
mod port_ephemeral;
mod port_missing;
mod port_out_of_range;
mod port_split;
mod port_stale_listener;
mod port_undeclared;
mod process_idle;
mod process_orphan;
mod process_zombie;
mod reload_failed;
mod reload_raced;

use std::collections::BTreeSet;

use self::input::RuleInput;
use super::finding::{Finding, Judgement, instance};
use super::verdict::PortKey;
use crate::model::{ProcessId, UnixSeconds};
use crate::policy::Rules;
use crate::policy::kind::Kind;

/// A rule that needs no other rule's answer.
type Rule = fn(&RuleInput<'_>) -> Judgement;

/// The rules that need no other rule's answer.
const INDEPENDENT: [(Kind, Rule); 12] = [
    (Kind::PortOutOfRange, port_out_of_range::port_out_of_range),
    (Kind::PortUndeclared, port_undeclared::port_undeclared),
    (Kind::PortEphemeral, port_ephemeral::port_ephemeral),
    (Kind::PortBacklog, port_backlog::port_backlog),
    (Kind::ProcessIdle, process_idle::process_idle),
    (Kind::ProcessZombie, process_zombie::process_zombie),
    (Kind::ProcessOrphan, process_orphan::process_orphan),
    (Kind::ReloadFailed, reload_failed::reload_failed),
    (Kind::ReloadRaced, reload_raced::reload_raced),
    (Kind::PidfileMismatch, pidfile_mismatch::pidfile_mismatch),
    (Kind::ConfigNotLoaded, config_not_loaded::config_not_loaded),
    (Kind::BinaryOutdated, binary_outdated::binary_outdated),
];

/// Judges a service by every rule; returns the findings and the kinds that could be judged.
#[must_use]
pub fn judge(input: &RuleInput<'_>) -> (Vec<(Kind, Finding)>, BTreeSet<Kind>) {
    let independent = INDEPENDENT.into_iter().map(|(kind, rule)| (kind, rule(input)));
    sift(
        dependent(input).into_iter().chain(independent),
        input.case.rules,
        input.case.snapshot.taken,
    )
}

/// The rules that stand back where another one explains the same sockets: one cause has one kind.
///
/// Racing daemons come first, then what blocks a port, then a split; a stale listener or a missing
/// port is what none of these explains.
fn dependent(input: &RuleInput<'_>) -> [(Kind, Judgement); 4] {
    let racing = reload_raced::racing(input.case);
    let blocked = port_blocked::port_blocked(input);
    let split = port_split::port_split(input);
    let explained = &ports_of(&split) | &ports_of(&blocked);
    let stale = port_stale_listener::port_stale_listener(input, &racing, &explained);
    [
        (Kind::PortMissing, port_missing::port_missing(input, &blocked)),
        (Kind::PortStaleListener, stale),
        (Kind::PortBlocked, blocked),
        (Kind::PortSplit, without(split, &racing)),
    ]
}

/// The ports that a rule found something about.
fn ports_of(judgement: &Judgement) -> BTreeSet<PortKey> {
    judgement.findings.iter().filter_map(|finding| finding.subject.port.clone()).collect()
}

/// A judgement without what it found about these processes.
fn without(judgement: Judgement, processes: &BTreeSet<ProcessId>) -> Judgement {
    let instances: BTreeSet<String> = processes.iter().map(|id| instance(*id)).collect();
    let findings = judgement.findings.into_iter();
    let findings = findings.filter(|finding| !instances.contains(&finding.instance)).collect();
    Judgement { findings, ..judgement }
}

/// Drops the findings that the operator accepts at this moment; returns the others and the kinds that
/// could be judged.
#[must_use]
pub fn sift(
    judgements: impl IntoIterator<Item = (Kind, Judgement)>,
    rules: &Rules,
    now: UnixSeconds,
) -> (Vec<(Kind, Finding)>, BTreeSet<Kind>) {
    let mut findings = Vec::new();
    let mut judged = BTreeSet::new();
    for (kind, judgement) in judgements {
        if judgement.complete || !judgement.findings.is_empty() {
            judged.insert(kind);
        }
        let is_accepted = |finding: &Finding| {
            let at = finding.subject.place().map(|(address, port)| (address, port..=port));
            rules.ignores(Some(kind), at.as_ref(), now)
        };
        let kept = judgement.findings.into_iter().filter(|finding| !is_accepted(finding));
        findings.extend(kept.map(|finding| (kind, finding)));
    }
    (findings, judged)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::model::PortRole;
    use crate::policy::kind::Kind;
    use crate::policy::{AllowedPort, Ignore, Policy, Rules, Until};
    use crate::stage::{Actor, Film, HERE, actor, tcp_use};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    fn allowing(ports: std::ops::RangeInclusive<u16>) -> Policy {
        let entry = AllowedPort { protocol: None, address: None, ports };
        let defaults = Rules { allowed_ports: Some(vec![entry]), ..Rules::default() };
        Policy { defaults, ..Policy::default() }
    }

    #[test]
    fn an_accepted_anomaly_is_not_found() {
        let mut policy = allowing(80..=100);
        let until = Some(Until { end: 2000.0, written: "1970-01-01T00:33:20Z".to_owned() });
        let entry = Ignore {
            kind: Some(Kind::PortOutOfRange),
            port: Some(200),
            until,
            ..Ignore::default()
        };
        policy.defaults.ignore = vec![entry.clone()];
        let actors = || [actor(10, 1, LINE).tcp(200, 1).tcp(201, 2)];
        let mut film = Film::with(policy);
        let verdict = film.settle(1000.0, &actors());
        assert_eq!(verdict.one().findings(), ["port_out_of_range tcp 201"]);
        assert_eq!(verdict.expired_ignores, []);
        let verdict = film.settle(2000.0, &actors());
        let both = ["port_out_of_range tcp 200", "port_out_of_range tcp 201"];
        assert_eq!(verdict.one().findings(), both, "it has expired");
        assert_eq!(verdict.expired_ignores, [entry]);
    }

    #[test]
    fn a_kind_that_cannot_be_seen_is_not_judged() {
        let verdict = Film::with(allowing(1..=2)).settle(1000.0, &[actor(10, 1, LINE).unseen()]);
        for kind in [Kind::PortOutOfRange, Kind::PortStaleListener, Kind::PortSplit] {
            let judged = verdict.one().judged(kind);
            // The only process of a service is current, so no stale one can have been missed.
            assert_eq!(judged, kind == Kind::PortStaleListener, "{}", kind.as_str());
        }
    }

    /// Serving since second 100, with a configuration of second 50.
    fn serving(text: &str) -> Actor {
        actor(10, 100, LINE).configured(text, 50)
    }

    const BLUE_TOO: &str = "frontend a\n bind :80\n bind :80 namespace blue\n";

    #[test]
    fn one_number_in_two_network_namespaces_is_two_ports() {
        let high = "frontend a\n bind :15000\n bind :40000\n bind :15000 namespace blue\n bind \
                    :40000 namespace blue\n";
        let table: [(&str, Actor, &[&str]); 7] = [
            ("both bound", serving(BLUE_TOO).tcp(80, 1).tcp_in_blue(80, 2), &[]),
            (
                "not in the other",
                serving(BLUE_TOO).tcp(80, 1).tcp_in_blue(81, 2),
                &["port_undeclared tcp 81@blue", "port_missing tcp 80@blue"],
            ),
            ("not in its own", serving(BLUE_TOO).tcp_in_blue(80, 1), &["port_missing tcp 80"]),
            (
                "the other way round",
                serving("frontend a\n bind :80\n bind :81 namespace blue\n")
                    .tcp(81, 1)
                    .tcp_in_blue(80, 2),
                &[
                    "port_undeclared tcp 80@blue",
                    "port_undeclared tcp 81",
                    "port_missing tcp 80",
                    "port_missing tcp 81@blue",
                ],
            ),
            (
                "the named namespace is not found, and may be the one that was read",
                serving("frontend a\n bind :80\n bind :81 namespace red\n")
                    .names("red", None)
                    .tcp(80, 1)
                    .tcp_in_blue(81, 2),
                &[],
            ),
            (
                "a name of its own namespace",
                serving("frontend a\n bind :80 namespace red\n")
                    .names("red", Some(HERE))
                    .tcp(80, 1),
                &[],
            ),
            (
                "each has its own ephemeral range",
                serving(high)
                    .tcp(15000, 1)
                    .tcp(40000, 2)
                    .tcp_in_blue(15000, 3)
                    .tcp_in_blue(40000, 4),
                &["port_ephemeral tcp 15000@blue", "port_ephemeral tcp 40000"],
            ),
        ];
        for (what, actor, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor]);
            let mut expected = expected.to_vec();
            let mut found = verdict.one().findings();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn ports_in_a_namespace_that_cannot_be_entered_are_not_judged() {
        let shut = || serving(BLUE_TOO).shut_out_of_blue().holds(2);
        let verdict = Film::default().settle(1000.0, &[shut().tcp(80, 1)]);
        let service = verdict.one();
        assert_eq!((service.up, service.findings().len()), (Some(true), 0));
        assert_eq!(service.ports.len(), 1);
        assert!(service.protocols_known.is_empty(), "there may be more ports");
        for kind in [Kind::PortMissing, Kind::PortUndeclared, Kind::PortBlocked] {
            assert!(!service.judged(kind), "{}", kind.as_str());
        }
        // A port that is missing in the namespace that was read is found nevertheless.
        let other = serving(&format!("{BLUE_TOO} bind :81\n")).shut_out_of_blue().tcp(80, 1);
        let verdict = Film::default().settle(1000.0, &[other]);
        assert_eq!(verdict.one().findings(), ["port_missing tcp 81"]);
        // All its listeners may be in the other namespace, so it is neither up nor down.
        let verdict = Film::default().settle(1000.0, &[shut()]);
        assert_eq!((verdict.one().up, verdict.one().cast().as_str()), (None, "10 current"));
    }

    #[test]
    fn every_kind_has_a_rule() {
        let master = actor(10, 100, "haproxy -W -f /a.cfg").reload(1);
        let worker = actor(11, 101, "haproxy -W -f /a.cfg").child_of(10).reload(1).tcp(80, 1);
        let known = "frontend a\n bind :80\n";
        let healthy = [master.configured(known, 50), worker.configured(known, 50)];
        let verdict = Film::default().settle(1000.0, &healthy);
        assert_eq!(verdict.one().judged, BTreeSet::from(Kind::ALL));
        assert_eq!(verdict.one().findings(), [""; 0]);
    }

    #[test]
    fn a_port_that_is_blocked_is_not_missing_too() {
        let wanted = "frontend a\n bind :80\n bind :53\n bind :59044\n bind quic4@:444\n";
        let loaded = actor(10, 300, LINE).configured(wanted, 200).tcp(80, 1).tcp(59044, 2);
        let uses = [tcp_use(PortRole::Listening, "0.0.0.0:53", 5, 99)];
        let mut film = Film::default();
        film.see_uses(1000.0, std::slice::from_ref(&loaded), &uses);
        let verdict = film.see_uses(1030.0, &[loaded], &uses);
        let found = verdict.one().findings();
        assert_eq!(
            found.iter().filter(|f| f.starts_with("port_")).map(String::as_str).collect::<Vec<_>>(),
            ["port_missing udp 444", "port_blocked tcp 53 dnsmasq", "port_ephemeral tcp 59044"]
        );
    }
}
