//! What `serve` logs of its verdicts: each missing right and each unreadable source once, each cause when
//! it begins and when it ends, and each `ignore` entry when it has expired. The lines about causes are
//! limited in each minute.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::log_quota::LogQuota;
use crate::judge::account::Account;
use crate::judge::changes::{Change, KnownCause};
use crate::judge::verdict::Verdict;
use crate::policy::Ignore;
use crate::report::causes::ports_of;
use crate::report::expired;
use crate::report::text::age;
use crate::rights;

/// The most entries of unreadable things that the log gets while the exporter runs: a user can cause new
/// ones without end.
const MOST_LOGGED: usize = 500;

/// Remembers what has been logged.
#[derive(Debug, Default)]
pub struct Journal {
    rights: bool,
    unreadable: BTreeSet<(&'static str, String)>,
    /// The lines about causes that may still be written in this minute.
    quota: LogQuota,
    /// The `ignore` entries of the configuration in force that have expired.
    expired: Vec<Ignore>,
}

impl Journal {
    /// Logs what this verdict shows for the first time, and what it shows to be over: `changes` are those
    /// since the last verdict.
    pub fn write(&mut self, verdict: &Verdict, changes: &[Change<'_>]) {
        self.write_unreadable(verdict);
        for ignore in self.newly_expired(verdict) {
            let haproxy = ignore.haproxy.as_deref().unwrap_or("defaults");
            let ignores = expired::subject(ignore);
            let until = ignore.until.as_ref().map(|until| until.written.as_str());
            let reason = ignore.reason.as_deref();
            warn!(haproxy, ignores, until, reason, "an ignore entry has expired");
        }
        if let Some(left_out) = self.quota.begin(verdict.taken) {
            let words = "more causes began or ended in the last minute; see the page";
            warn!(left_out, "{left_out} {words}");
        }
        changes.iter().filter(|change| self.may_log(change)).for_each(log);
    }

    /// Whether the log has room for a change. Only the causes that begin and end are logged.
    fn may_log(&mut self, change: &Change<'_>) -> bool {
        match change {
            Change::Began { service, .. } => self.quota.take(&Account::of(service)),
            Change::Ended { cause, .. } => self.quota.take(&cause.account),
            Change::Reloaded { .. } | Change::ReloadFailed { .. } => false,
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
}

fn log(change: &Change<'_>) {
    match change {
        Change::Began { service, cause } => {
            let (id, haproxy, kind) = (&cause.id, &service.name, cause.kind.as_str());
            let (subject, ports, effect) = (&cause.subject, ports_of(cause), cause.kind.effect());
            let (evidence, advice) = (cause.evidence.join("; "), &cause.advice);
            warn!(cause = id, haproxy, kind, subject, ports, effect, evidence, advice, "anomaly");
        }
        Change::Ended {
            cause: KnownCause { id, service: haproxy, kind, subject, .. },
            seconds,
        } => {
            let (kind, lasted) = (kind.as_str(), age(*seconds));
            info!(cause = id, haproxy, kind, subject, lasted, "anomaly is over");
        }
        Change::Reloaded { .. } | Change::ReloadFailed { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::changes::Follower;
    use crate::policy::{Policy, Until};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    /// A service with 100 causes flaps. Another one has one cause, and each gets its share of lines.
    #[test]
    fn a_flapping_service_gets_no_more_than_its_share_of_the_log() {
        let flapping = || {
            let old = |n: u16| {
                let pid = 10 + i32::from(n);
                actor(pid, 100 + u32::from(n), LINE).tcp(1000 + n, 1000 + u64::from(n))
            };
            let new = actor(900, 500, &format!("{LINE} -sf 9")).tcp(80, 1);
            (0..100).map(old).chain([new]).collect::<Vec<Actor>>()
        };
        let other = || {
            let line = "haproxy -D -f /b.cfg -p /run/q";
            let old = actor(1000, 100, line).tcp(81, 2001);
            [old, actor(1001, 500, &format!("{line} -sf 9")).tcp(82, 2002)]
        };
        let (mut film, mut follower) = (Film::default(), Follower::default());
        let mut journal = Journal::default();
        let mut see = |taken: f64, actors: Vec<Actor>| {
            let verdict = film.see(taken, &actors);
            let changes = follower.follow(&verdict);
            let left_out = journal.quota.begin(taken);
            let logged = changes.iter().filter(|change| journal.may_log(change)).count();
            (changes.len(), logged, left_out)
        };
        let both = || flapping().into_iter().chain(other()).collect();
        assert_eq!(see(1000.0, both()), (0, 0, None));
        assert_eq!(see(1030.0, both()), (101, 31, None));
        assert_eq!(see(1060.0, other().into()), (100, 30, Some(70)));
        assert_eq!(see(1120.0, other().into()), (0, 0, Some(70)));
        assert_eq!(see(1180.0, other().into()), (0, 0, None));
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
