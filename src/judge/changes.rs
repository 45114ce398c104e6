//! What changed from one verdict to the next: reloads, and causes that began or ended. The log, the
//! page and `inspect --watch` show the same changes.

use std::collections::{BTreeMap, BTreeSet};

use super::account::Account;
use super::verdict::{Cause, PortKey, ServiceVerdict, Verdict};
use crate::haproxy::lineage::generations::Generation;
use crate::model::{Protocol, UnixSeconds};
use crate::policy::kind::Kind;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<'v> {
    /// New generations of a service took over.
    Reloaded {
        /// The service.
        service: &'v ServiceVerdict,
        /// The number of reloads since the last verdict.
        count: u64,
        /// How its ports changed; `None` where they could not all be seen before or after.
        ports: Option<PortChange>,
    },
    /// Reloads of a service failed, and the old generation still serves.
    ReloadFailed {
        /// The service.
        service: &'v ServiceVerdict,
        /// The number of failed reloads since the last verdict.
        count: u64,
    },
    /// A cause began: it fires, or it is pending and pending causes are reported too.
    Began {
        /// The service.
        service: &'v ServiceVerdict,
        /// The cause.
        cause: &'v Cause,
    },
    /// A cause is over.
    Ended {
        /// The cause, as it was when it began.
        cause: KnownCause,
        /// How long it lasted.
        seconds: f64,
    },
}

/// The listeners of the current generation that a reload added and dropped, ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortChange {
    /// The ports that are new.
    pub added: Vec<PortKey>,
    /// The ports that are gone.
    pub dropped: Vec<PortKey>,
}

/// A cause that was seen, with all that its end shows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownCause {
    /// Its id.
    pub id: String,
    /// The name of its service.
    pub service: String,
    /// Whose share of a bounded list its entries take up.
    pub account: Account,
    /// Its kind.
    pub kind: Kind,
    /// The kinds of its anomalies, by precedence.
    pub kinds: Vec<Kind>,
    /// What it acts on, in words; empty for the service itself.
    pub subject: String,
    /// Since when it was wrong.
    pub since: UnixSeconds,
}

impl KnownCause {
    fn of(service: &ServiceVerdict, cause: &Cause) -> KnownCause {
        KnownCause {
            id: cause.id.clone(),
            service: service.name.clone(),
            account: Account::of(service),
            kind: cause.kind,
            kinds: cause.kinds.clone(),
            subject: cause.subject.clone(),
            since: cause.since,
        }
    }
}

/// Finds the changes, and remembers of each verdict what the next one is compared with.
#[derive(Debug, Default)]
pub struct Follower {
    /// Causes that are pending are reported like those that fire.
    with_pending: bool,
    /// The causes that go on, by their ids.
    causes: BTreeMap<String, KnownCause>,
    /// The services of the last verdict, by their names.
    services: BTreeMap<String, SeenService>,
}

/// What is remembered of one service.
#[derive(Debug)]
struct SeenService {
    successes: u64,
    failures: u64,
    /// The listeners of its current generation when all of them were last known, in the order of the
    /// verdict.
    ports: Option<Vec<PortKey>>,
}

impl Follower {
    /// A follower that reports causes from the moment in which they are pending, for a reader to whom they
    /// are shown then.
    #[must_use]
    pub fn with_pending() -> Follower {
        Follower { with_pending: true, ..Follower::default() }
    }

    /// The changes that this verdict shows: reloads first, then causes that began, then those that
    /// ended. The causes that the first verdict shows began with it.
    pub fn follow<'v>(&mut self, verdict: &'v Verdict) -> Vec<Change<'v>> {
        let mut changes = self.follow_reloads(verdict);
        changes.extend(self.follow_causes(verdict));
        changes
    }

    fn follow_reloads<'v>(&mut self, verdict: &'v Verdict) -> Vec<Change<'v>> {
        let mut before = std::mem::take(&mut self.services);
        let mut changes = Vec::new();
        for service in &verdict.services {
            let seen = before.remove(&service.name);
            let now = match seen {
                Some(seen) => seen.compare(service, &mut changes),
                None => SeenService::first(service),
            };
            self.services.insert(service.name.clone(), now);
        }
        changes
    }

    /// A cause whose kind could not be judged this time goes on: not seeing it does not end it.
    fn follow_causes<'v>(&mut self, verdict: &'v Verdict) -> Vec<Change<'v>> {
        let mut ended = std::mem::take(&mut self.causes);
        let mut changes = Vec::new();
        for service in &verdict.services {
            let causes = service.causes.iter();
            for cause in causes.filter(|cause| self.with_pending || !cause.pending) {
                let known = ended.remove(&cause.id).unwrap_or_else(|| {
                    changes.push(Change::Began { service, cause });
                    KnownCause::of(service, cause)
                });
                self.causes.insert(cause.id.clone(), known);
            }
        }
        let services = verdict.services.iter().filter(|_| !ended.is_empty());
        let services: BTreeMap<&str, &ServiceVerdict> =
            services.map(|service| (service.name.as_str(), service)).collect();
        let goes_on = |cause: &KnownCause| {
            let service = services.get(cause.service.as_str());
            service.is_some_and(|service| !service.judged.contains(&cause.kind))
        };
        let (unseen, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            ended.into_iter().partition(|(_, cause)| goes_on(cause));
        self.causes.extend(unseen);
        changes.extend(ended.into_values().map(|cause| {
            let seconds = verdict.taken - cause.since;
            Change::Ended { cause, seconds }
        }));
        changes
    }
}

impl SeenService {
    fn first(service: &ServiceVerdict) -> SeenService {
        SeenService {
            successes: service.reloads.successes,
            failures: service.reloads.failures,
            ports: are_ports_known(service).then(|| ports(service).cloned().collect()),
        }
    }

    /// Adds the reloads of a service since it was last seen, and remembers it as it is now.
    fn compare<'v>(
        mut self,
        service: &'v ServiceVerdict,
        changes: &mut Vec<Change<'v>>,
    ) -> SeenService {
        // The counters begin again when a service has been forgotten.
        let count = service.reloads.successes.saturating_sub(self.successes);
        let failed = service.reloads.failures.saturating_sub(self.failures);
        let is_known = are_ports_known(service);
        if failed > 0 {
            changes.push(Change::ReloadFailed { service, count: failed });
        }
        if count > 0 {
            let before = self.ports.as_deref().filter(|_| is_known);
            let ports = before.map(|before| PortChange::between(before, service));
            changes.push(Change::Reloaded { service, count, ports });
        }
        (self.successes, self.failures) = (service.reloads.successes, service.reloads.failures);
        // Most samples change no port, so most copy none.
        if is_known && !self.ports.iter().flatten().eq(ports(service)) {
            self.ports = Some(ports(service).cloned().collect());
        }
        self
    }
}

impl PortChange {
    fn between(before: &[PortKey], service: &ServiceVerdict) -> PortChange {
        let before: BTreeSet<&PortKey> = before.iter().collect();
        let after: BTreeSet<&PortKey> = ports(service).collect();
        PortChange {
            added: after.difference(&before).map(|key| (*key).clone()).collect(),
            dropped: before.difference(&after).map(|key| (*key).clone()).collect(),
        }
    }
}

fn are_ports_known(service: &ServiceVerdict) -> bool {
    service.up == Some(true)
        && Protocol::ALL.iter().all(|protocol| service.protocols_known.contains(protocol))
}

/// The ports on which the current generation listens.
fn ports(service: &ServiceVerdict) -> impl Iterator<Item = &PortKey> {
    let current = service.ports.iter().filter(|port| port.generation == Generation::Current);
    current.map(|port| &port.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    /// A change in words: `began port_split`, `reloaded 1 +80 -443`.
    fn words(change: &Change<'_>) -> String {
        let list = |sign: char, keys: &[PortKey]| {
            let words: Vec<String> = keys.iter().map(|k| format!(" {sign}{}", k.port)).collect();
            words.concat()
        };
        match change {
            Change::Reloaded { count, ports: Some(ports), .. } => {
                format!("reloaded {count}{}{}", list('+', &ports.added), list('-', &ports.dropped))
            }
            Change::Reloaded { count, ports: None, .. } => format!("reloaded {count} unseen"),
            Change::ReloadFailed { count, .. } => format!("failed {count}"),
            Change::Began { cause, .. } => format!("began {}", cause.kind.as_str()),
            Change::Ended { cause, seconds } => format!("ended {} {seconds}", cause.kind.as_str()),
        }
    }

    /// Each row has a time, the processes then, and the changes that they show.
    fn assert_changes(table: &[(f64, Vec<Actor>, &[&str])]) {
        let (mut film, mut follower) = (Film::default(), Follower::default());
        for (taken, actors, expected) in table {
            let verdict = film.see(*taken, actors);
            let found: Vec<String> = follower.follow(&verdict).iter().map(words).collect();
            assert_eq!(found, *expected, "at {taken}");
        }
    }

    #[test]
    fn a_cause_begins_once_and_ends_once() {
        let old = || {
            (0..300).fold(actor(10, 100, LINE), |old, n| old.tcp(20_000 + n, 1000 + u64::from(n)))
        };
        let new = || actor(11, 200, &format!("{LINE} -sf 9")).tcp(80, 1);
        let both = || vec![old(), new()];
        assert_changes(&[
            (1000.0, both(), &[]), // pending
            (1030.0, both(), &["began port_stale_listener"]),
            (1035.0, both(), &[]),
            (1040.0, both().into_iter().map(Actor::unseen).collect(), &[]), // it could not be judged
            (1045.0, both(), &[]),
            (1050.0, vec![new()], &["ended port_stale_listener 850"]),
        ]);
    }

    #[test]
    fn a_pending_cause_is_a_change_only_where_it_is_asked_for() {
        let old = || actor(10, 100, LINE).tcp(80, 1);
        let new = || actor(11, 200, &format!("{LINE} -sf 9")).tcp(81, 2);
        let mut film = Film::default();
        let (mut firing, mut all) = (Follower::default(), Follower::with_pending());
        let mut see = |taken: f64, actors: &[Actor]| {
            let verdict = film.see(taken, actors);
            [&mut firing, &mut all].map(|follower| {
                let changes = follower.follow(&verdict);
                changes.iter().map(words).collect::<Vec<_>>().join(", ")
            })
        };
        assert_eq!(see(1000.0, &[old(), new()]), ["", "began port_stale_listener"]);
        assert_eq!(see(1001.0, &[new()]), ["", "ended port_stale_listener 801"]);
    }

    #[test]
    fn a_reload_shows_the_ports_that_it_added_and_dropped() {
        let first = || actor(10, 100, LINE).tcp(80, 1).tcp(443, 2).tcp(444, 3);
        let second = || actor(11, 1004, &format!("{LINE} -sf 10")).tcp(80, 4).tcp(8080, 5);
        let third = || actor(12, 1014, &format!("{LINE} -sf 11")).tcp(80, 6).tcp(8080, 7);
        let restarted = || actor(13, 1024, LINE).tcp(81, 8);
        assert_changes(&[
            (1000.0, vec![first()], &[]),
            (1005.0, vec![second()], &["reloaded 1 +8080 -443 -444"]),
            (1010.0, vec![second()], &[]),
            (1015.0, vec![third()], &["reloaded 1"]),
            (1020.0, vec![], &[]),
            (1025.0, vec![restarted()], &[]), // a start is no reload
        ]);
    }

    #[test]
    fn ports_that_could_not_be_seen_are_not_called_dropped() {
        let first = || actor(10, 100, LINE).tcp(80, 1);
        let second = || actor(11, 1004, &format!("{LINE} -sf 10")).tcp(80, 4).tcp(81, 5);
        let (mut film, mut follower) = (Film::default(), Follower::default());
        follower.follow(&film.see(1000.0, &[first()]));
        let mut verdict = film.see(1005.0, &[second()]);
        verdict.services[0].protocols_known.remove(&Protocol::Udp);
        let found: Vec<String> = follower.follow(&verdict).iter().map(words).collect();
        assert_eq!(found, ["reloaded 1 unseen"]);
    }

    #[test]
    fn failed_reloads_of_a_master_are_changes() {
        let line = "haproxy -W -f /a.cfg";
        let master = |number| actor(19, 1, line).reload(number);
        let worker = || actor(20, 2, line).child_of(19).reload(0).tcp(80, 1);
        let see = |number| vec![master(number), worker()];
        assert_changes(&[
            (1000.0, see(0), &[]),
            (1001.0, see(1), &[]),
            (1002.0, see(1), &["failed 1"]),
            (1003.0, see(1), &[]),
            (1030.0, see(1), &["began reload_failed"]),
        ]);
    }
}
