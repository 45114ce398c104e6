//! How often something costly is done: so that it takes no more than a share of one processor.

use crate::sample::clock::seconds;
use rustix::time::ClockId;

/// Remembers what some work costs, and when it was last done.
///
/// That is the lesser of the last two times: where a machine stands still, whoever was running is
/// charged for it.
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
    /// The work may be done again, if it is to take this share of a processor's time at most.
    #[must_use]
    pub fn allows(&self, share: f64) -> bool {
        self.last.is_none_or(|last| {
            let idle = seconds(ClockId::Monotonic) - last.ended;
            last.cost_seconds <= idle * share
        })
    }

    /// Seconds since the work was last done; infinite before that.
    #[must_use]
    pub fn idle_seconds(&self) -> f64 {
        self.last.map_or(f64::INFINITY, |last| seconds(ClockId::Monotonic) - last.ended)
    }

    /// What it takes, seconds of processor time.
    #[must_use]
    pub fn cost_seconds(&self) -> f64 {
        self.last.map_or(0.0, |last| last.cost_seconds)
    }

    /// Takes note of work that is done now, at a cost that is known from before.
    pub fn charge(&mut self, cost_seconds: f64) {
        let ended = seconds(ClockId::Monotonic);
        self.last = Some(Round { ended, took_seconds: cost_seconds, cost_seconds });
    }

    /// Does the work and takes note of the processor time it took (`CLOCK_THREAD_CPUTIME_ID`).
    pub fn spend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = seconds(ClockId::ThreadCPUTime);
        let outcome = work();
        self.note(seconds(ClockId::ThreadCPUTime) - begun);
        outcome
    }

    /// Lets time go by.
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
    fn dear_work_waits_for_its_share() {
        let mut budget = CpuBudget::default();
        assert!(budget.allows(0.0), "the first time costs what it costs");
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
