//! Limits how many signals one run and one hour may send.

use std::collections::{BTreeMap, BTreeSet};

use super::guards::Hold;
use super::history::{HOUR_SECONDS, History};
use super::sight::BootSeconds;
use crate::model::ProcessId;
use crate::policy::reap::ReapPolicy;

/// The signals that count against the limits: those of this run, and those of the last hour.
#[derive(Debug)]
pub struct Caps {
    run: BTreeMap<String, u32>,
    hour: BTreeMap<String, u32>,
    /// The processes that were signalled within the hour, by service.
    signalled: BTreeMap<String, BTreeSet<ProcessId>>,
    /// The limits on all services together: the largest of each.
    whole_run: u32,
    whole_hour: u32,
}

impl Caps {
    /// Counts what was sent before. `sent_in_run`: how many this run has sent, by service. The limits on
    /// all services together are the largest among `policies`, so that no fault can empty a host with
    /// many services.
    pub fn new<'a>(
        history: &History,
        sent_in_run: &BTreeMap<String, u32>,
        policies: impl Iterator<Item = &'a ReapPolicy>,
        now: BootSeconds,
    ) -> Caps {
        let policies: Vec<&ReapPolicy> = policies.collect();
        let mut caps = Caps {
            run: sent_in_run.clone(),
            hour: BTreeMap::new(),
            signalled: BTreeMap::new(),
            whole_run: policies.iter().map(|policy| policy.max_per_run).max().unwrap_or(0),
            whole_hour: policies.iter().map(|policy| policy.max_per_hour).max().unwrap_or(0),
        };
        for sent in history.recent.iter().filter(|sent| now - sent.at < HOUR_SECONDS) {
            *caps.hour.entry(sent.service.clone()).or_default() += 1;
            caps.signalled.entry(sent.service.clone()).or_default().insert(sent.id());
        }
        caps
    }

    /// Counts one more signal, or returns the limit that forbids it. `living`: the living processes of the
    /// service.
    pub fn take(
        &mut self,
        service: &str,
        id: ProcessId,
        policy: &ReapPolicy,
        living: &BTreeSet<ProcessId>,
    ) -> Result<(), Hold> {
        let of = |counts: &BTreeMap<String, u32>| counts.get(service).copied().unwrap_or_default();
        let all = |counts: &BTreeMap<String, u32>| counts.values().sum::<u32>();
        if of(&self.run) >= policy.max_per_run || all(&self.run) >= self.whole_run {
            return Err(Hold::RunCap(policy.max_per_run));
        }
        if of(&self.hour) >= policy.max_per_hour || all(&self.hour) >= self.whole_hour {
            return Err(Hold::HourCap(policy.max_per_hour));
        }
        let signalled = self.signalled.entry(service.to_owned()).or_default();
        // Those that were signalled and have ended were among the living when the hour began.
        let population = living.union(signalled).count();
        if !signalled.contains(&id) && exceeds(signalled.len() + 1, population, policy.max_share) {
            return Err(Hold::ShareCap(signalled.len(), population));
        }
        signalled.insert(id);
        *self.run.entry(service.to_owned()).or_default() += 1;
        *self.hour.entry(service.to_owned()).or_default() += 1;
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss)] // there are fewer processes than pids
fn exceeds(part: usize, whole: usize, share: f64) -> bool {
    // A share is a whole percentage, so rounding cannot matter beyond this.
    part as f64 > whole as f64 * share + 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::reap::StopSignal;

    fn id(pid: i32) -> ProcessId {
        ProcessId { start_ticks: 1, pid }
    }

    /// How many signals were allowed, and the limit that forbade the next.
    type Taken = (u32, &'static str);

    /// How many of 20 processes of each service may be signalled, and the limit that stops the next.
    fn take(history: &History, policy: &ReapPolicy, services: &[&str]) -> Taken {
        let none = BTreeMap::new();
        let mut caps = Caps::new(history, &none, [policy].into_iter(), 10_000.0);
        let living: BTreeSet<ProcessId> = (0..20).map(id).collect();
        let mut taken = 0;
        for pid in 0..20 {
            for service in services {
                match caps.take(service, id(pid), policy, &living) {
                    Ok(()) => taken += 1,
                    Err(hold) => return (taken, hold.code()),
                }
            }
        }
        (taken, "")
    }

    #[test]
    fn each_limit_holds() {
        let wide = ReapPolicy {
            max_per_run: 100,
            max_per_hour: 100,
            max_share: 1.0,
            ..ReapPolicy::default()
        };
        let run = ReapPolicy { max_per_run: 3, ..wide.clone() };
        let hour = ReapPolicy { max_per_hour: 4, ..wide.clone() };
        let share = ReapPolicy { max_share: 0.25, ..wide.clone() };
        let none = ReapPolicy { max_share: 0.01, ..wide.clone() };
        let nothing = History::default();
        let history = (100..102).fold(History::default(), |history, pid| {
            history.with_signal("a", id(pid), StopSignal::Usr1, 9000.0)
        });
        let old = history.with_signal("a", id(200), StopSignal::Usr1, 6000.0);
        let table: [(&str, &History, &ReapPolicy, &[&str], Taken); 9] = [
            ("none", &nothing, &wide, &["a"], (20, "")),
            ("a run", &nothing, &run, &["a"], (3, "max_per_run")),
            ("a run over two services", &nothing, &run, &["a", "b"], (3, "max_per_run")),
            ("an hour", &nothing, &hour, &["a"], (4, "max_per_hour")),
            ("what was sent before counts", &history, &hour, &["a"], (2, "max_per_hour")),
            ("what is older than an hour does not", &old, &hour, &["a"], (2, "max_per_hour")),
            ("a share", &nothing, &share, &["a"], (5, "max_share")),
            // Two of 22 were signalled and have ended.
            ("a share with the dead", &history, &share, &["a"], (3, "max_share")),
            ("a share of less than one", &nothing, &none, &["a"], (0, "max_share")),
        ];
        for (what, history, policy, services, expected) in table {
            assert_eq!(take(history, policy, services), expected, "{what}");
        }
    }

    #[test]
    fn a_process_counts_once_for_the_share() {
        let policy = ReapPolicy { max_share: 0.5, ..ReapPolicy::default() };
        let history = History::default().with_signal("a", id(1), StopSignal::Usr1, 9990.0);
        let none = BTreeMap::new();
        let mut caps = Caps::new(&history, &none, [&policy].into_iter(), 10_000.0);
        let living = [id(1), id(2)].into_iter().collect();
        assert_eq!(caps.take("a", id(1), &policy, &living), Ok(()), "its next step");
        assert!(caps.take("a", id(2), &policy, &living).is_err());
    }
}
