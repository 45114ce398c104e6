//! One look at the host: sample, look closer at what is stale, judge.

use crate::config::Config;
use crate::haproxy::listeners;
use crate::judge::verdict::Verdict;
use crate::judge::{Inquiry, Memory, Policy, Questions};
use crate::model::Snapshot;
use crate::sample::{Error, Paths, Sampler};

/// Looks at the host again and again, and remembers.
#[derive(Debug)]
pub struct Watcher {
    sampler: Sampler,
    policy: Policy,
    memory: Memory,
}

impl Watcher {
    /// Prepares to watch.
    pub fn new(paths: Paths, config: Config) -> Result<Watcher, Error> {
        let sampler = Sampler::new(paths, config.discovery)?;
        Ok(Watcher { sampler, policy: config.policy, memory: Memory::default() })
    }

    /// Takes a sample and judges it.
    pub fn look(&mut self) -> Verdict {
        self.observe().1
    }

    /// Takes a sample and judges it; answers the sample too.
    pub fn observe(&mut self) -> (Snapshot, Verdict) {
        let snapshot = self.sampler.sample();
        let holdings = listeners::holdings(&snapshot);
        let inquiry = Inquiry::open(&snapshot, &holdings, &self.memory, &self.policy);
        let Questions { stale, unbound } = inquiry.questions();
        let closer = self.sampler.look_closer(&snapshot, &stale, &unbound);
        let (verdict, memory) = inquiry.judge(&closer);
        self.memory = memory;
        (snapshot, verdict)
    }

    /// What takes the samples, for a closer look.
    pub fn sampler(&mut self) -> &mut Sampler {
        &mut self.sampler
    }

    /// Goes on by another configuration; what is remembered stays.
    pub fn reconfigure(&mut self, config: Config) {
        self.sampler.set_discovery(config.discovery);
        self.policy = config.policy;
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
