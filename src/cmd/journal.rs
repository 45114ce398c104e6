//! What `serve` logs of its verdicts: each missing right and each unreadable source once, and each cause when
//! it begins and when it ends.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use crate::judge::verdict::{Cause, ServiceVerdict, Verdict};
use crate::model::UnixSeconds;
use crate::policy::kind::Kind;
use crate::report::causes::ports_of;
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
}
