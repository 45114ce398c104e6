//! What `serve` logs of its verdicts: each missing right and each unreadable source once, each cause when
//! it begins and when it ends, and each `ignore` entry when it has expired.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use crate::judge::verdict::{Cause, ServiceVerdict, Verdict};
use crate::model::UnixSeconds;
use crate::policy::Ignore;
use crate::policy::kind::Kind;
use crate::report::causes::ports_of;
use crate::report::expired;
use crate::report::text::age;
use crate::rights;

/// The log names so many things that could not be read, for as long as the exporter runs: a user can
/// name new ones without end.
const MOST_LOGGED: usize = 500;

/// Remembers what has been logged.
#[derive(Debug, Default)]
pub struct Journal {
    rights: bool,
    unreadable: BTreeSet<(&'static str, String)>,
    /// The causes that fire, by their ids.
    causes: BTreeMap<String, Logged>,
    /// The `ignore` entries of the configuration in force that have expired.
    expired: Vec<Ignore>,
}

/// A cause that has been logged, as its end will name it.
#[derive(Debug, Clone, PartialEq)]
struct Logged {
    haproxy: String,
    kind: Kind,
    subject: String,
    since: UnixSeconds,
}

impl Journal {
    /// Logs what this verdict shows for the first time, and what it shows to be over.
    pub fn write(&mut self, verdict: &Verdict) {
        self.write_unreadable(verdict);
        for ignore in self.newly_expired(verdict) {
            let haproxy = ignore.haproxy.as_deref().unwrap_or("defaults");
            let ignores = expired::subject(ignore);
            let until = ignore.until.as_ref().map(|until| until.written.as_str());
            let reason = ignore.reason.as_deref();
            warn!(haproxy, ignores, until, reason, "an ignore entry has expired");
        }
        let (begun, ended) = self.follow(verdict);
        for (service, cause) in begun {
            let (id, haproxy, kind) = (&cause.id, &service.name, cause.kind.as_str());
            let (subject, ports, effect) = (&cause.subject, ports_of(cause), cause.effect());
            let (evidence, advice) = (cause.evidence.join("; "), &cause.advice);
            warn!(cause = id, haproxy, kind, subject, ports, effect, evidence, advice, "anomaly");
        }
        for (id, Logged { haproxy, kind, subject, since }) in ended {
            let (kind, lasted) = (kind.as_str(), age(verdict.taken - since));
            info!(cause = id, haproxy, kind, subject, lasted, "anomaly is over");
        }
    }

    /// Another configuration is in force: its entries that have expired are logged again.
    pub fn forget_expired(&mut self) {
        self.expired.clear();
    }

    /// The `ignore` entries that this verdict is the first to show as expired. Where the clock was set
    /// back an entry may expire twice.
    fn newly_expired<'v>(&mut self, verdict: &'v Verdict) -> Vec<&'v Ignore> {
        let known = std::mem::replace(&mut self.expired, verdict.expired_ignores.clone());
        verdict.expired_ignores.iter().filter(|ignore| !known.contains(ignore)).collect()
    }

    fn write_unreadable(&mut self, verdict: &Verdict) {
        if !verdict.unreadable.is_empty() && !self.rights {
            self.rights = true;
            for (right, unseen) in rights::missing() {
                warn!(right, unseen, "a right is missing");
            }
        }
        for entry in &verdict.unreadable {
            let what = entry.what.as_str();
            if self.unreadable.len() == MOST_LOGGED {
                break;
            }
            if self.unreadable.insert((what, entry.reason.clone())) {
                let (subject, reason) = (&entry.subject, &entry.reason);
                warn!(what, subject, reason, "could not be read; logged once for each reason");
                if self.unreadable.len() == MOST_LOGGED {
                    warn!("too many things could not be read; no more of them are logged");
                }
            }
        }
    }

    /// The causes that began to fire with this verdict, and those that ended. A cause whose kind could
    /// not be judged this time goes on: not seeing it does not end it.
    fn follow<'v>(
        &mut self,
        verdict: &'v Verdict,
    ) -> (Vec<(&'v ServiceVerdict, &'v Cause)>, BTreeMap<String, Logged>) {
        let mut ended = std::mem::take(&mut self.causes);
        let mut begun = Vec::new();
        for service in &verdict.services {
            for cause in service.causes.iter().filter(|cause| !cause.pending) {
                let logged = ended.remove(&cause.id).unwrap_or_else(|| {
                    begun.push((service, cause));
                    Logged {
                        haproxy: service.name.clone(),
                        kind: cause.kind,
                        subject: cause.subject.clone(),
                        since: cause.since,
                    }
                });
                self.causes.insert(cause.id.clone(), logged);
            }
        }
        let goes_on = |logged: &Logged| {
            let service = verdict.services.iter().find(|service| service.name == logged.haproxy);
            service.is_some_and(|service| !service.judged.contains(&logged.kind))
        };
        let (unseen, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            ended.into_iter().partition(|(_, logged)| goes_on(logged));
        self.causes.extend(unseen);
        (begun, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, Until};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    #[test]
    fn a_cause_begins_once_and_ends_once() {
        let old = || {
            (0..300).fold(actor(10, 100, LINE), |old, n| old.tcp(20_000 + n, 1000 + u64::from(n)))
        };
        let new = || actor(11, 200, &format!("{LINE} -sf 9")).tcp(80, 1);
        let hidden = || [old(), new()].map(Actor::unseen);
        let mut film = Film::default();
        let mut journal = Journal::default();
        let mut see = |taken: f64, actors: &[Actor]| {
            let verdict = film.see(taken, actors);
            let (begun, ended) = journal.follow(&verdict);
            let kind = |kind: Kind| kind.as_str();
            (
                begun.iter().map(|(_, cause)| kind(cause.kind)).collect::<Vec<_>>(),
                ended.values().map(|logged| kind(logged.kind)).collect::<Vec<_>>(),
            )
        };
        let none = (vec![], vec![]);
        assert_eq!(see(1000.0, &[old(), new()]), none, "pending");
        assert_eq!(see(1030.0, &[old(), new()]), (vec!["port_stale_listener"], vec![]));
        assert_eq!(see(1035.0, &[old(), new()]), none);
        assert_eq!(see(1040.0, &hidden()), none, "it could not be judged");
        assert_eq!(see(1045.0, &[old(), new()]), none);
        assert_eq!(see(1050.0, &[new()]), (vec![], vec!["port_stale_listener"]));
    }

    #[test]
    fn an_expired_entry_is_logged_once_and_again_after_a_reload() {
        let entry = |port: u16, end: f64| Ignore {
            port: Some(port),
            until: Some(Until { end, written: "2027-03-01".to_owned() }),
            ..Ignore::default()
        };
        let mut policy = Policy::default();
        policy.defaults.ignore = vec![entry(1, 900.0), entry(2, 1010.0)];
        let mut film = Film::with(policy);
        let mut journal = Journal::default();
        let mut see = |taken: f64, is_reloaded: bool| -> Vec<Option<u16>> {
            if is_reloaded {
                journal.forget_expired();
            }
            let verdict = film.see(taken, &[]);
            journal.newly_expired(&verdict).iter().map(|ignore| ignore.port).collect()
        };
        assert_eq!(see(1000.0, false), [Some(1)], "at the start");
        assert_eq!(see(1005.0, false), []);
        assert_eq!(see(1010.0, false), [Some(2)], "when it expires");
        assert_eq!(see(1015.0, false), []);
        assert_eq!(see(1020.0, true), [Some(1), Some(2)]);
    }
}
