//! Rules about what the configuration declares and what is bound.

use std::collections::{BTreeMap, BTreeSet};

use super::port_blocked::{self, Claim};
use super::ports::pids;
use super::{Case, Finding, Judgement};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::places::{Endpoint, Places};
use crate::judge::case::{MOST_ENDPOINTS, PortSockets, port_key};
use crate::judge::verdict::{PortKey, Subject};
use crate::model::{Configuration, NamespaceId, Protocol};

/// So many changes are told.
const MOST_CHANGES: usize = 10;

/// The current generation listens on what no configuration on disk declares.
pub fn port_undeclared(case: &Case<'_>) -> Judgement {
    let Some((configuration, false)) = settled(case) else { return unsettled(case) };
    let undeclared = case.by_port(Generation::Current).filter(|(_, holders)| {
        holders.first().is_some_and(|port| is_undeclared(case, configuration, port))
    });
    let findings = undeclared.map(|(key, holders)| Finding {
        subject: Subject { port: Some(key.clone()), ..Subject::default() },
        evidence: vec![format!(
            "{} listens there, and no configuration file declares it",
            pids(holders)
        )],
        advice: "something bound it at run time, or the files named on the command line are not \
                 those it was started with: compare, then reload"
            .to_owned(),
        ..Finding::default()
    });
    let places_known = case.scene.places.know_all(&configuration.ports);
    let complete = places_known && case.knows_ports_of(Generation::Current);
    Judgement::if_known(complete, findings.collect())
}

/// No line of the configuration can be the cause of it.
fn is_undeclared(case: &Case<'_>, configuration: &Configuration, port: &PortSockets<'_>) -> bool {
    let key = &port.key;
    let declared = case.scene.places.declares(&configuration.ports, &port.endpoint());
    declared == Some(false) && !configuration.declared.may_bind(key.protocol, key.address, key.port)
}

/// A declared port that no current process listens on, while one serves.
///
/// What is `blocked` has its own kind.
pub fn port_missing(case: &Case<'_>, blocked: &Judgement) -> Judgement {
    let Some((configuration, false)) = settled(case) else { return unsettled(case) };
    if case.scene.generations.up != Some(true) {
        return Judgement::if_known(case.scene.generations.up == Some(false), Vec::new());
    }
    let scene = case.scene;
    let mut complete = blocked.complete
        && case.knows_ports_of(Generation::Current)
        && scene.places.know_all(&configuration.ports)
        && configuration.ports.iter().nth(MOST_ENDPOINTS).is_none();
    let held: BTreeSet<&PortKey> =
        blocked.findings.iter().filter_map(|finding| finding.subject.port.as_ref()).collect();
    let mut known: BTreeMap<(NamespaceId, Protocol), bool> = BTreeMap::new();
    let mut findings = Vec::new();
    for endpoint in &scene.unbound {
        let (network, protocol) = (endpoint.network, endpoint.protocol);
        let known = known
            .entry((network, protocol))
            .or_insert_with(|| scene.listeners_known_in(network, protocol, Generation::Current));
        let key = port_key(scene.snapshot, endpoint);
        if !*known || held.contains(&key) {
            complete &= *known;
            continue;
        }
        let mut evidence = vec!["it is declared, and no current process listens on it".to_owned()];
        evidence.extend(declared_at(configuration, &scene.places, endpoint));
        findings.push(Finding {
            subject: Subject { port: Some(key), ..Subject::default() },
            evidence,
            advice: "see whether the frontend was disabled or shut down at run time \
                     (show stat, enable frontend); else reload"
                .to_owned(),
            ..Finding::default()
        });
    }
    Judgement::if_known(complete, findings)
}

/// A declared port that is not bound is held by something else: now, or for the next reload.
pub fn port_blocked(case: &Case<'_>) -> Judgement {
    // Of a namespace that was not read nobody can say who uses its ports either.
    let known = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .all(|protocol| case.scene.attributed(protocol, Generation::Current));
    match claim(case).filter(|claim| claim.configuration.complete) {
        Some(claim) if known => port_blocked::port_blocked(&claim, case.scene.snapshot),
        _ => Judgement::if_known(false, Vec::new()),
    }
}

/// The configuration on disk is not the one that serves, for longer than `reload_grace`.
pub fn config_not_loaded(case: &Case<'_>) -> Judgement {
    let Some(changed) = case.scene.config_has_changed() else {
        return Judgement::if_known(case.scene.generations.up == Some(false), Vec::new());
    };
    let Some(configuration) = case.scene.configuration.as_deref().filter(|_| changed) else {
        return Judgement::of(Vec::new());
    };
    let mut evidence = changes(case, configuration);
    if evidence.is_empty() {
        evidence.push("the files differ; the ports would stay the same".to_owned());
    }
    let error = configuration.declared.errors.first();
    evidence.extend(error.map(|error| {
        format!(
            "it would not load: {}:{}: {}",
            error.place.file.display(),
            error.place.line,
            error.what
        )
    }));
    let now = case.scene.snapshot.taken;
    Judgement::of(vec![Finding {
        since: Some(configuration.modified).filter(|&modified| modified <= now),
        grace_seconds: Some(case.scene.rules.reload_grace_seconds),
        evidence,
        advice: format!("haproxy-host-exporter check --haproxy {}, then reload", case.scene.name),
        ..Finding::default()
    }])
}

/// The configuration, and whether it has changed since it was loaded; `None`: not all is known.
fn settled<'c>(case: &'c Case<'_>) -> Option<(&'c Configuration, bool)> {
    let configuration = case.scene.configuration.as_deref().filter(|c| c.complete)?;
    Some((configuration, case.scene.config_has_changed()?))
}

/// While an edit waits for its reload, what differs is evidence of that, and nothing else.
fn unsettled(case: &Case<'_>) -> Judgement {
    let waiting = settled(case).is_some();
    let gone = case.scene.generations.up == Some(false);
    Judgement::if_known(waiting || gone, Vec::new())
}

/// What a haproxy that lives declares, and has bound.
fn claim<'c>(case: &'c Case<'_>) -> Option<Claim<'c>> {
    let scene = case.scene;
    Some(Claim {
        name: &scene.name,
        configuration: scene.configuration.as_deref()?,
        places: &scene.places,
        tcp_ports: &scene.tcp_ports,
        unbound: &scene.unbound,
        owners: case.owners,
        closer: scene.closer,
    })
}

/// What a reload would bind and give back.
fn changes(case: &Case<'_>, configuration: &Configuration) -> Vec<String> {
    let added = case.scene.unbound.iter().map(|endpoint| {
        format!("a reload would bind {}", in_words(&port_key(case.scene.snapshot, endpoint)))
    });
    let removed = case.by_port(Generation::Current).filter(|(_, holders)| {
        configuration.complete
            && holders.first().is_some_and(|port| is_undeclared(case, configuration, port))
    });
    let removed = removed.map(|(key, _)| format!("a reload would give back {}", in_words(key)));
    added.chain(removed).take(MOST_CHANGES).collect()
}

fn in_words(key: &PortKey) -> String {
    let PortKey { protocol, address, port, netns, .. } = key;
    let place = if netns.is_empty() { String::new() } else { format!(" in netns {netns}") };
    format!("{protocol} {address} port {port}{place}")
}

/// Where in the files a port is declared.
pub fn declared_at(
    configuration: &Configuration,
    places: &Places,
    endpoint: &Endpoint,
) -> Option<String> {
    let listener = configuration.declared.listeners.iter().find(|listener| {
        listener.protocol == endpoint.protocol
            && listener.address == endpoint.address
            && listener.ports.contains(endpoint.port)
            && places.network(listener.namespace.as_deref()) == Some(endpoint.network)
    })?;
    let place = &listener.place;
    Some(format!("declared at {}:{} ({})", place.file.display(), place.line, listener.section))
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::Kind;
    use crate::stage::{Actor, Film, HERE, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const TWO: &str = "frontend a\n bind :80\n bind :81\n";

    /// Serving since second 100, with a configuration of second 50.
    fn serving(text: &str) -> Actor {
        actor(10, 100, LINE).configured(text, 50)
    }

    #[test]
    fn port_undeclared() {
        let table: [(&str, Actor, &[&str]); 5] = [
            ("all declared", serving(TWO).tcp(80, 1).tcp(81, 2), &[]),
            (
                "one more",
                serving(TWO).tcp(80, 1).tcp(81, 2).tcp(82, 3),
                &["port_undeclared tcp 82"],
            ),
            (
                "an uncertain line may be it",
                serving("frontend a\n bind :80\n bind name.example:82\n").tcp(80, 1).tcp(82, 3),
                &[],
            ),
            (
                "an edit waits for its reload",
                actor(10, 100, LINE)
                    .configured("frontend a\n bind :80\n", 200)
                    .tcp(80, 1)
                    .tcp(82, 2),
                &[],
            ),
            ("nothing is known", actor(10, 100, LINE).tcp(82, 3), &[]),
        ];
        for (what, actor, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor]);
            assert_eq!(verdict.one().findings(), expected, "{what}");
        }
        let unknown = Film::default().settle(1000.0, &[actor(10, 100, LINE).tcp(82, 3)]);
        assert!(!unknown.one().judged(Kind::PortUndeclared));
        assert!(!unknown.one().judged(Kind::PortMissing));
        assert!(!unknown.one().judged(Kind::ConfigNotLoaded));
    }

    #[test]
    fn port_missing() {
        let table: [(&str, Actor, &[&str]); 5] = [
            ("all bound", serving(TWO).tcp(80, 1).tcp(81, 2), &[]),
            ("one not", serving(TWO).tcp(80, 1), &["port_missing tcp 81"]),
            (
                "in another network namespace",
                serving("frontend a\n bind :80\n bind :81 namespace blue\n").tcp(80, 1),
                &[],
            ),
            (
                "an edit waits for its reload",
                actor(10, 100, LINE).configured(TWO, 200).tcp(80, 1),
                &[],
            ),
            ("down: another kind's business", serving(TWO), &[]),
        ];
        for (what, actor, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor]);
            let found = verdict.one().findings();
            assert_eq!(found, expected, "{what}");
        }
    }

    const BLUE_TOO: &str = "frontend a\n bind :80\n bind :80 namespace blue\n";

    /// One number in two namespaces is two ports.
    #[test]
    fn ports_in_another_network_namespace() {
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
                "a name that leads nowhere may be where it is",
                serving("frontend a\n bind :80\n bind :81 namespace red\n")
                    .names("red", None)
                    .tcp(80, 1)
                    .tcp_in_blue(81, 2),
                &[],
            ),
            (
                "a name that leads home",
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
    fn what_is_in_a_namespace_that_cannot_be_entered_is_not_judged() {
        let shut = || serving(BLUE_TOO).shut_out_of_blue().holds(2);
        let verdict = Film::default().settle(1000.0, &[shut().tcp(80, 1)]);
        let haproxy = verdict.one();
        assert_eq!((haproxy.up, haproxy.findings().len()), (Some(true), 0));
        assert_eq!(haproxy.ports.len(), 1);
        assert!(haproxy.protocols_known.is_empty(), "there may be more");
        for kind in [Kind::PortMissing, Kind::PortUndeclared, Kind::PortBlocked] {
            assert!(!haproxy.judged(kind), "{}", kind.as_str());
        }
        // What is missing in the namespace that was read is missing.
        let other = serving(&format!("{BLUE_TOO} bind :81\n")).shut_out_of_blue().tcp(80, 1);
        let verdict = Film::default().settle(1000.0, &[other]);
        assert_eq!(verdict.one().findings(), ["port_missing tcp 81"]);
        // All it listens on may be there: neither up nor down.
        let verdict = Film::default().settle(1000.0, &[shut()]);
        assert_eq!((verdict.one().up, verdict.one().cast().as_str()), (None, "10 current"));
    }

    #[test]
    fn config_not_loaded() {
        let mut film = Film::default();
        let edited = || actor(10, 1, LINE).configured(TWO, 2000).tcp(80, 1).tcp(82, 2);
        film.see(2001.0, &[edited()]);
        let early = film.see(5599.0, &[edited()]);
        assert!(early.one().findings().is_empty(), "an hour to reload");
        let late = film.see(5601.0, &[edited()]);
        assert_eq!(late.one().findings(), ["config_not_loaded"]);
        let evidence = late.one().anomalies[0].evidence.join("; ");
        assert!(evidence.contains("would bind tcp 0.0.0.0 port 81"), "{evidence}");
        assert!(evidence.contains("would give back tcp 0.0.0.0 port 82"), "{evidence}");
    }

    #[test]
    fn what_was_watched_goes_by_content() {
        let mut film = Film::default();
        let born =
            |text, modified| actor(10, 1000, LINE).configured(text, modified).tcp(80, 1).tcp(81, 2);
        film.see(1001.0, &[born(TWO, 900)]);
        let touched = film.see(9000.0, &[born(TWO, 5000)]);
        assert!(touched.one().anomalies.is_empty(), "the same content");
        let changed = film.see(9001.0, &[born("frontend a\n bind :80\n", 900)]);
        assert_eq!(changed.one().anomalies[0].kind, Kind::ConfigNotLoaded, "an older date");
    }

    #[test]
    fn a_grace_of_haproxys_own_prolongs_ours() {
        let text = "global\n grace 60s\nfrontend a\n bind :80\n";
        let old = || actor(10, 100, LINE).configured(text, 50).tcp(80, 1);
        let new = || actor(11, 1000, &format!("{LINE} -sf 10")).configured(text, 50).tcp(80, 1);
        let mut film = Film::default();
        film.see(999.0, &[old()]);
        for second in [1010.0, 1020.0, 1069.0] {
            let verdict = film.see(second, &[old(), new()]);
            assert!(verdict.one().findings().is_empty(), "{second}");
        }
        let verdict = film.see(1071.0, &[old(), new()]);
        assert_eq!(verdict.one().findings(), ["port_stale_listener tcp 80 haproxy stale"]);
        let evidence = verdict.one().anomalies[0].evidence.join("; ");
        assert!(evidence.contains("still declares it"), "{evidence}");
    }

    #[test]
    fn a_grace_of_haproxys_own_holds_for_separate_sockets() {
        let text = "global\n grace 60s\nfrontend a\n bind :80\n";
        let old = || actor(10, 100, LINE).configured(text, 50).tcp(80, 1);
        let new = || actor(11, 1000, &format!("{LINE} -sf 10")).configured(text, 50).tcp(80, 2);
        let mut film = Film::default();
        film.see(999.0, &[old()]);
        for second in [1010.0, 1020.0, 1069.0] {
            let verdict = film.see(second, &[old(), new()]);
            assert!(verdict.one().findings().is_empty(), "{second}");
        }
        let verdict = film.see(1071.0, &[old(), new()]);
        assert_eq!(verdict.one().findings(), ["port_split tcp 80 haproxy stale"]);
    }

    #[test]
    fn a_daemon_may_be_one_by_its_configuration_alone() {
        let text = "global\n daemon\nfrontend a\n bind :80\n";
        let line = "haproxy -f /a.cfg";
        let launcher = actor(10, 100, line).configured(text, 50).change(|p| p.session = 5);
        let daemon = || actor(11, 100, line).configured(text, 50).tcp(80, 1);
        let mut film = Film::default();
        film.see(100.5, &[launcher, daemon().child_of(10)]);
        film.see(101.0, &[daemon()]);
        let verdict = film.see(200.0, &[daemon()]);
        assert_eq!(verdict.one().findings(), [""; 0], "no worker that lost its master");
        assert_eq!(verdict.one().identity.mode, "daemon");
    }

    #[test]
    fn a_date_tells_of_an_edit_nobody_watched() {
        let at = |modified| actor(10, 1000, LINE).configured("frontend a\n bind :80\n", modified);
        for (what, modified, fires) in [
            ("written just before the start", 1000, false),
            ("edited before the first look", 1003, true),
        ] {
            let mut film = Film::default();
            film.see(1005.0, &[at(modified).tcp(80, 1).tcp(81, 2)]);
            let verdict = film.see(9000.0, &[at(modified).tcp(80, 1).tcp(81, 2)]);
            let kinds: Vec<Kind> = verdict.one().anomalies.iter().map(|a| a.kind).collect();
            assert_eq!(kinds.contains(&Kind::ConfigNotLoaded), fires, "{what}");
        }
    }
}
