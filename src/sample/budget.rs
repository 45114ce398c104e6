//! Limits how often expensive work is done, so that it takes no more than a share of one processor.

use crate::sample::clock::seconds;
use rustix::time::ClockId;

/// When some work was last done, and what it costs.
///
/// The cost is the lesser of the last two measurements: on a machine that stalls, whichever process
/// was running is charged for the stall.
#[derive(Debug, Default)]
pub struct CpuBudget {
    last: Option<Round>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    ended: f64,
    took_seconds: f64,
    cost_seconds: f64,
}

impl CpuBudget {
    /// Whether the work may be done again, if it is to take no more than this share of a processor.
    #[must_use]
    pub fn allows(&self, share: f64) -> bool {
        self.affords(self.cost_seconds(), share)
    }

    /// The same for work whose cost is measured elsewhere. The first time is always allowed.
    #[must_use]
    pub fn affords(&self, cost_seconds: f64, share: f64) -> bool {
        self.last.is_none() || cost_seconds <= self.idle_seconds() * share
    }

    /// Seconds since the work was last done; infinite before that.
    #[must_use]
    pub fn idle_seconds(&self) -> f64 {
        self.last.map_or(f64::INFINITY, |last| seconds(ClockId::Monotonic) - last.ended)
    }

    /// The processor time that the work takes, in seconds.
    #[must_use]
    pub fn cost_seconds(&self) -> f64 {
        self.last.map_or(0.0, |last| last.cost_seconds)
    }

    /// Records that the work was done just now, at a cost that was measured elsewhere.
    pub fn charge(&mut self, cost_seconds: f64) {
        let ended = seconds(ClockId::Monotonic);
        self.last = Some(Round { ended, took_seconds: cost_seconds, cost_seconds });
    }

    /// Does the work and measures the processor time it takes (`CLOCK_THREAD_CPUTIME_ID`).
    pub fn spend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = seconds(ClockId::ThreadCPUTime);
        let outcome = work();
        self.note(seconds(ClockId::ThreadCPUTime) - begun);
        outcome
    }

    /// Pretends that time has passed.
    #[cfg(test)]
    pub fn wait(&mut self, seconds: f64) {
        self.last = self.last.map(|last| Round { ended: last.ended - seconds, ..last });
    }

    fn note(&mut self, took_seconds: f64) {
        let cost_seconds =
            self.last.map_or(took_seconds, |last| last.took_seconds.min(took_seconds));
        self.last = Some(Round { ended: seconds(ClockId::Monotonic), took_seconds, cost_seconds });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expensive_work_waits_for_its_share() {
        let mut budget = CpuBudget::default();
        assert!(budget.allows(0.0), "the first time");
        budget.spend(|| ());
        budget.last = budget.last.map(|round| Round { cost_seconds: 3600.0, ..round });
        assert!(!budget.allows(0.5));
        budget.wait(7300.0);
        assert!(budget.allows(0.5));
        assert!(!budget.allows(0.4));
    }

    #[test]
    fn a_single_stall_is_not_taken_for_the_cost() {
        let mut budget = CpuBudget::default();
        let mut costs = Vec::new();
        for took in [3.0, 1.0, 3600.0, 1.0, 2.0, 2.0] {
            budget.note(took);
            costs.push(budget.cost_seconds());
        }
        assert_eq!(costs, [3.0, 1.0, 1.0, 1.0, 1.0, 2.0]);
    }
}
