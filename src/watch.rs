//! One look at the host: sample, look closer at what is stale, judge.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::haproxy::listeners;
use crate::judge::verdict::{ServiceVerdict, Verdict};
use crate::judge::{Cases, FollowUps, Memory};
use crate::model::{ProcessId, Snapshot};
use crate::policy::Policy;
use crate::sample::{Error, Paths, Sampler};

/// The host is looked at so often at most until a fall is confirmed,
const MOST_LOOKS: usize = 4;
/// and after this time no more than twice.
const PATIENCE: Duration = Duration::from_secs(2);

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
        let look = confirm_down(self, &known, |watcher| watcher.sampler.sample(), Watcher::judge);
        let Look { snapshot, verdict, memory } = look;
        self.memory = memory;
        // Who was down and cannot be told of now is no news when it is down again.
        let untold = with_up(&verdict, None).filter(|haproxy| known.contains(&haproxy.name));
        let down = with_up(&verdict, Some(false)).chain(untold);
        self.down = down.map(|haproxy| haproxy.name.clone()).collect();
        (snapshot, verdict)
    }

    fn judge(&mut self, snapshot: &Snapshot) -> (Verdict, Memory) {
        let holdings = listeners::holdings(snapshot);
        let cases = Cases::open(snapshot, &holdings, &self.memory, &self.policy);
        let FollowUps { stale, unbound } = cases.follow_ups();
        let details = self.sampler.details(snapshot, &stale, &unbound);
        cases.judge(&details)
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

impl Look {
    /// That a haproxy is down was seen before, and nothing has happened to it since.
    fn confirms(&self, fallen: &ServiceVerdict, before: &Look) -> bool {
        let ids = |haproxy: &ServiceVerdict| -> BTreeSet<ProcessId> {
            haproxy.processes.iter().map(|process| process.id).collect()
        };
        let members = ids(fallen);
        let mut down_before = with_up(&before.verdict, Some(false));
        down_before.any(|haproxy| haproxy.name == fallen.name && ids(haproxy) == members)
            && self.snapshot.agrees_with(&before.snapshot, &members)
    }
}

/// Looks until what is seen can be believed: that a haproxy is down that was not `known` to be, once
/// two looks in a row have shown the same of it. If none do, nothing is said of it.
///
/// One that a reload has torn may show its worker after its end, and its master before the re-exec.
fn confirm_down<H>(
    host: &mut H,
    known: &BTreeSet<String>,
    sample: impl Fn(&mut H) -> Snapshot,
    judge: impl Fn(&mut H, &Snapshot) -> (Verdict, Memory),
) -> Look {
    let mut before: Option<Look> = None;
    let mut looks = 0;
    let begun = Instant::now();
    loop {
        looks += 1;
        let snapshot = sample(host);
        let (verdict, memory) = judge(host, &snapshot);
        let mut look = Look { snapshot, verdict, memory };
        let confirmed = |haproxy: &ServiceVerdict| {
            known.contains(&haproxy.name)
                || before.as_ref().is_some_and(|before| look.confirms(haproxy, before))
        };
        let fallen = with_up(&look.verdict, Some(false));
        let doubtful: BTreeSet<String> =
            fallen.filter(|h| !confirmed(h)).map(|h| h.name.clone()).collect();
        let out_of_time = looks > 1 && begun.elapsed() > PATIENCE;
        if doubtful.is_empty() || looks == MOST_LOOKS || out_of_time {
            let haproxys = look.verdict.services.iter_mut();
            haproxys.filter(|h| doubtful.contains(&h.name)).for_each(ServiceVerdict::withhold);
            return look;
        }
        before = Some(look);
    }
}

fn with_up(verdict: &Verdict, up: Option<bool>) -> impl Iterator<Item = &ServiceVerdict> {
    verdict.services.iter().filter(move |haproxy| haproxy.up == up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Details;
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
            let look = confirm_down(self, &known, Script::sample, Script::judge);
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
            let cases = Cases::open(snapshot, &holdings, &self.memory, &policy);
            cases.judge(&Details::none())
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
        let mut script = Script::of(restless);
        let look = confirm_down(&mut script, &BTreeSet::new(), Script::sample, Script::judge);
        let haproxy = look.verdict.one();
        assert_eq!((haproxy.up, script.next), (None, MOST_LOOKS));
        // Nor what would follow from that nobody serves.
        assert!(haproxy.judged.is_empty() && haproxy.protocols_known.is_empty());
    }

    /// One that never comes to rest keeps nobody else from being called down.
    #[test]
    fn each_haproxy_is_looked_at_for_itself() {
        let scene = |number| {
            vec![
                master().reload(number),
                actor(30, 100 + number, "haproxy -W -f /b").reload(number),
            ]
        };
        let still =
            |number| vec![master(), actor(30, 100 + number, "haproxy -W -f /b").reload(number)];
        let up = |scenes: Vec<Vec<Actor>>| {
            let mut script = Script::of(scenes);
            let look = confirm_down(&mut script, &BTreeSet::new(), Script::sample, Script::judge);
            look.verdict.services.iter().map(|h| (h.name.clone(), h.up)).collect::<Vec<_>>()
        };
        let named = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
        assert_eq!(up((1..=4).map(scene).collect()), named(None, None));
        assert_eq!(up((1..=4).map(still).collect()), named(Some(false), None));
    }
}
