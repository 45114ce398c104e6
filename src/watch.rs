//! One look at the host: sample, look closer at what is stale, judge.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::haproxy::listeners;
use crate::judge::verdict::Verdict;
use crate::judge::{Inquiry, Memory, Policy, Questions};
use crate::model::Snapshot;
use crate::sample::{Error, Paths, Sampler};

/// The host is looked at so often at most until a fall is confirmed.
const MOST_LOOKS: usize = 6;

/// Looks at the host again and again, and remembers.
#[derive(Debug)]
pub struct Watcher {
    sampler: Sampler,
    policy: Policy,
    memory: Memory,
    /// Names of those that were down in the last sample.
    down: BTreeSet<String>,
}

impl Watcher {
    /// Prepares to watch.
    pub fn new(paths: Paths, config: Config) -> Result<Watcher, Error> {
        let sampler = Sampler::new(paths, config.discovery)?;
        Ok(Watcher {
            sampler,
            policy: config.policy,
            memory: Memory::default(),
            down: BTreeSet::new(),
        })
    }

    /// Takes a sample and judges it.
    pub fn look(&mut self) -> Verdict {
        self.observe().1
    }

    /// Takes a sample and judges it; answers the sample too.
    pub fn observe(&mut self) -> (Snapshot, Verdict) {
        let known = std::mem::take(&mut self.down);
        let look = believe(self, &known, |watcher| watcher.sampler.sample(), Watcher::judge);
        (self.memory, self.down) = (look.memory, down(&look.verdict));
        (look.snapshot, look.verdict)
    }

    fn judge(&mut self, snapshot: &Snapshot) -> (Verdict, Memory) {
        let holdings = listeners::holdings(snapshot);
        let inquiry = Inquiry::open(snapshot, &holdings, &self.memory, &self.policy);
        let Questions { stale, unbound } = inquiry.questions();
        let closer = self.sampler.look_closer(snapshot, &stale, &unbound);
        inquiry.judge(&closer)
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

/// One look at the host.
struct Look {
    snapshot: Snapshot,
    verdict: Verdict,
    /// For the next.
    memory: Memory,
}

/// Looks until what is seen can be believed: that a haproxy is down that was not `known` to be, once
/// two samples in a row have shown the same.
///
/// One that a reload has torn may show its worker after its end, and its master before the re-exec.
fn believe<H>(
    host: &mut H,
    known: &BTreeSet<String>,
    sample: impl Fn(&mut H) -> Snapshot,
    judge: impl Fn(&mut H, &Snapshot) -> (Verdict, Memory),
) -> Look {
    let mut before: Option<Snapshot> = None;
    let mut looks = 0;
    loop {
        looks += 1;
        let mut snapshot = sample(host);
        let confirmed = before.is_some_and(|before| before.agrees_with(&snapshot));
        snapshot.torn |= looks == MOST_LOOKS && !confirmed;
        let (verdict, memory) = judge(host, &snapshot);
        if confirmed || snapshot.torn || down(&verdict).is_subset(known) {
            return Look { snapshot, verdict, memory };
        }
        before = Some(snapshot);
    }
}

/// Names of the haproxys that are down beyond doubt.
fn down(verdict: &Verdict) -> BTreeSet<String> {
    let haproxys = verdict.haproxys.iter().filter(|haproxy| haproxy.up == Some(false));
    haproxys.map(|haproxy| haproxy.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CloserLook;
    use crate::stage::{Actor, actor, snapshot};

    const LINE: &str = "haproxy -W -f /a";

    fn master() -> Actor {
        actor(10, 100, LINE)
    }

    fn worker(pid: i32) -> Actor {
        actor(pid, 100, LINE).child_of(10)
    }

    /// What is to be seen, scene by scene.
    #[derive(Default)]
    struct Script {
        scenes: Vec<Vec<Actor>>,
        next: usize,
        memory: Memory,
    }

    impl Script {
        /// Serves at first.
        fn of(scenes: Vec<Vec<Actor>>) -> Script {
            let mut script =
                Script { scenes: vec![vec![master(), worker(11).tcp(80, 1)]], ..Script::default() };
            assert_eq!(script.look(&[]), (Some(true), 1));
            Script { scenes, next: 0, ..script }
        }

        /// Whether it is up, and how many scenes it took to tell.
        fn look(&mut self, known: &[&str]) -> (Option<bool>, usize) {
            let first = self.next;
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            let look = believe(self, &known, Script::sample, Script::judge);
            self.memory = look.memory;
            (look.verdict.one().up, self.next - first)
        }

        fn sample(&mut self) -> Snapshot {
            self.next += 1;
            snapshot(1000.0, &self.scenes[self.next - 1])
        }

        fn judge(&mut self, snapshot: &Snapshot) -> (Verdict, Memory) {
            let holdings = listeners::holdings(snapshot);
            let policy = Policy::default();
            let inquiry = Inquiry::open(snapshot, &holdings, &self.memory, &policy);
            inquiry.judge(&CloserLook::none())
        }
    }

    /// The master was looked at before its re-exec, and the worker after its end.
    #[test]
    fn a_reload_seen_in_two_halves_is_no_fall() {
        let landed = vec![master().reload(1), worker(12).reload(1).tcp(80, 2)];
        let mut script = Script::of(vec![vec![master()], landed]);
        assert_eq!(script.look(&[]), (Some(true), 2));
        // Or the old worker shows before its end, its descriptors after it.
        let mut script = Script::of(vec![
            vec![master(), worker(11)],
            vec![master().reload(1)],
            vec![master().reload(1), worker(12).reload(1).tcp(80, 2)],
        ]);
        assert_eq!(script.look(&[]), (Some(true), 3));
    }

    #[test]
    fn a_fall_is_believed_when_it_is_seen_twice() {
        let draining = || vec![master(), worker(11).holds(7)];
        let mut script = Script::of(vec![draining(), draining(), draining()]);
        assert_eq!(script.look(&[]), (Some(false), 2));
        assert_eq!(script.look(&["a"]), (Some(false), 1), "it is no news any more");
        let mut script = Script::of(vec![vec![], vec![]]);
        assert_eq!(script.look(&[]), (Some(false), 2));
    }

    #[test]
    fn where_no_two_looks_agree_nothing_is_said() {
        let restless = (1..=6).map(|number| vec![master().reload(number)]).collect();
        assert_eq!(Script::of(restless).look(&[]), (None, MOST_LOOKS));
    }
}
