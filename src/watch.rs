//! Looks at the host: takes samples until one can be relied on, and judges it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::haproxy::listeners;
use crate::judge::verdict::{ServiceVerdict, Verdict};
use crate::judge::{Cases, FollowUps, Memory};
use crate::model::{ProcessId, Snapshot};
use crate::policy::Policy;
use crate::sample::{Error, Paths, Sampler};

/// The maximum number of samples that one look takes.
const MOST_ATTEMPTS: usize = 8;
/// The maximum while only processes of users other than root come and go.
const ATTEMPTS_FOR_USERS: usize = 4;
/// The time after which a look that has taken two samples takes no more.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the host again and again, and remembers what it saw.
#[derive(Debug)]
pub struct Watcher {
    sampler: Sampler,
    policy: Policy,
    memory: Memory,
    /// The names of the services that were down in the last look.
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

    /// Looks at the host and judges it.
    pub fn look(&mut self) -> Verdict {
        self.observe().1
    }

    /// Looks at the host and judges it; also gives the sample that was judged.
    pub fn observe(&mut self) -> (Snapshot, Verdict) {
        let known = std::mem::take(&mut self.down);
        let look = confirm_down(self, &known, |watcher| watcher.sampler.sample(), Watcher::judge);
        let Look { snapshot, verdict, memory } = look;
        self.sampler.accept(&snapshot);
        self.memory = memory;
        // A service that was down and is unknown now need not be confirmed when it is down again.
        let unknown = with_up(&verdict, None).filter(|service| known.contains(&service.name));
        let down = with_up(&verdict, Some(false)).chain(unknown);
        self.down = down.map(|service| service.name.clone()).collect();
        (snapshot, verdict)
    }

    fn judge(&mut self, snapshot: &Snapshot) -> (Verdict, Memory) {
        self.memory.follow_clock(snapshot.booted);
        let holdings = listeners::holdings(snapshot);
        let cases = Cases::open(snapshot, &holdings, &self.memory, &self.policy);
        let FollowUps { stale, unbound } = cases.follow_ups();
        let details = self.sampler.details(snapshot, &stale, &unbound);
        cases.judge(&details)
    }

    /// The sampler, for details that no look asks for.
    pub fn sampler(&mut self) -> &mut Sampler {
        &mut self.sampler
    }

    /// Applies another configuration from the next look on; the memory is kept.
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

/// A sample and what it means.
struct Look {
    snapshot: Snapshot,
    verdict: Verdict,
    /// The memory for the next look.
    memory: Memory,
}

impl Look {
    /// Whether another sample is unlikely to show anything new after this many attempts.
    fn is_settled(&self, attempts: usize) -> bool {
        // These users may start and end processes forever.
        let waits_for_users =
            attempts < ATTEMPTS_FOR_USERS && self.snapshot.gaps.may_close_for_users();
        // A reload that seems to have failed may still be under way.
        let waits_for_a_reload =
            attempts == 1 && self.memory.begins_to_see_a_failure(self.snapshot.taken);
        !waits_for_users && !waits_for_a_reload
    }

    /// Whether a service that is down in this look was down in the one before, and nothing has
    /// happened to its processes since.
    fn confirms(&self, fallen: &ServiceVerdict, before: &Look) -> bool {
        let ids = |service: &ServiceVerdict| -> BTreeSet<ProcessId> {
            service.processes.iter().map(|process| process.id).collect()
        };
        let members = ids(fallen);
        let mut down_before = with_up(&before.verdict, Some(false));
        down_before.any(|service| service.name == fallen.name && ids(service) == members)
            && self.snapshot.agrees_with(&before.snapshot, &members)
    }
}

/// Takes samples until one can be relied on: it has no gap that another sample would close, and every
/// service that is down in it was `known` to be down or is confirmed by the sample before. When attempts or
/// time run out, `up` of the services that are not confirmed is withheld.
///
/// A fall must be confirmed because the parts of a sample may belong to two moments: the worker as it was
/// after its end, and its master as it was before the re-exec.
fn confirm_down<H>(
    host: &mut H,
    known: &BTreeSet<String>,
    sample: impl Fn(&mut H) -> Snapshot,
    judge: impl Fn(&mut H, &Snapshot) -> (Verdict, Memory),
) -> Look {
    let begun = Instant::now();
    let mut before: Option<Look> = None;
    let mut attempts = 0;
    loop {
        let snapshot = sample(host);
        attempts += 1;
        let is_last = attempts == MOST_ATTEMPTS || (attempts > 1 && begun.elapsed() > PATIENCE);
        if snapshot.gaps.may_close_at_once() && !is_last {
            continue;
        }
        let (verdict, memory) = judge(host, &snapshot);
        let mut look = Look { snapshot, verdict, memory };
        let is_confirmed = |service: &ServiceVerdict| {
            known.contains(&service.name)
                || before.as_ref().is_some_and(|before| look.confirms(service, before))
        };
        let fallen = with_up(&look.verdict, Some(false));
        let unconfirmed: BTreeSet<String> =
            fallen.filter(|h| !is_confirmed(h)).map(|h| h.name.clone()).collect();
        if unconfirmed.is_empty() && look.is_settled(attempts) || is_last {
            let services = look.verdict.services.iter_mut();
            services
                .filter(|one| unconfirmed.contains(&one.name))
                .for_each(ServiceVerdict::withhold);
            return look;
        }
        before = Some(look);
    }
}

fn with_up(verdict: &Verdict, up: Option<bool>) -> impl Iterator<Item = &ServiceVerdict> {
    verdict.services.iter().filter(move |service| service.up == up)
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

    /// A host that shows one sample after the other.
    #[derive(Default)]
    struct Script {
        samples: Vec<Snapshot>,
        next: usize,
        judged: usize,
        memory: Memory,
    }

    impl Script {
        /// A service that serves at first, and then these samples.
        fn of(samples: Vec<Snapshot>) -> Script {
            let serving = sample(&[master(), worker(11).tcp(80, 1)]);
            let mut script = Script { samples: vec![serving], ..Script::default() };
            assert_eq!(script.look(&[]), (Some(true), 1));
            Script { samples, next: 0, judged: 0, ..script }
        }

        /// Whether it is up, and how many samples it took to decide that.
        fn look(&mut self, known: &[&str]) -> (Option<bool>, usize) {
            let first = self.next;
            let look = self.confirm_down(known);
            (look.verdict.one().up, self.next - first)
        }

        fn confirm_down(&mut self, known: &[&str]) -> Look {
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            let look = confirm_down(self, &known, Script::sample, Script::judge);
            self.memory = look.memory.clone();
            look
        }

        fn sample(&mut self) -> Snapshot {
            self.next += 1;
            self.samples[self.next - 1].clone()
        }

        fn judge(&mut self, snapshot: &Snapshot) -> (Verdict, Memory) {
            self.judged += 1;
            let holdings = listeners::holdings(snapshot);
            let policy = Policy::default();
            let cases = Cases::open(snapshot, &holdings, &self.memory, &policy);
            cases.judge(&Details::default())
        }
    }

    fn sample(actors: &[Actor]) -> Snapshot {
        snapshot(1000.0, actors)
    }

    fn torn(actors: &[Actor]) -> Snapshot {
        let mut sample = sample(actors);
        sample.gaps.torn = true;
        sample
    }

    /// The master was read before its re-exec, and the worker after its end.
    #[test]
    fn a_reload_seen_in_two_halves_is_no_fall() {
        let landed = || sample(&[master().reload(1), worker(12).reload(1).tcp(80, 2)]);
        let mut script = Script::of(vec![sample(&[master()]), landed()]);
        assert_eq!(script.look(&[]), (Some(true), 2));
        // Or the old worker was read before its end, and its descriptors after it.
        let halves = [&[master(), worker(11)][..], &[master().reload(1)]];
        let mut script = Script::of(halves.map(sample).into_iter().chain([landed()]).collect());
        assert_eq!(script.look(&[]), (Some(true), 3));
    }

    /// The master has been re-executed, and has yet to start its worker; and a reload that does fail.
    #[test]
    fn a_reload_that_goes_on_is_no_failure() {
        let begun = |at| snapshot(at, &[master().reload(1), worker(11).tcp(80, 1)]);
        let landed =
            |number| sample(&[master().reload(number), worker(12).reload(number).tcp(80, 2)]);
        let mut script = Script::of(vec![begun(1001.0), landed(1), landed(3)]);
        assert_eq!(script.look(&[]), (Some(true), 2));
        let reloads = script.confirm_down(&[]).verdict.one().reloads.clone();
        assert_eq!((reloads.successes, reloads.failures), (3, 0));
        let mut script = Script::of(vec![begun(1001.0), begun(1001.1), begun(1002.0)]);
        assert_eq!((script.look(&[]).1, script.look(&[]).1), (2, 1));
    }

    #[test]
    fn a_fall_is_confirmed_by_two_equal_samples() {
        let draining = || sample(&[master(), worker(11).holds(7)]);
        let mut script = Script::of(vec![draining(), draining(), draining()]);
        assert_eq!(script.look(&[]), (Some(false), 2));
        assert_eq!(script.look(&["a"]), (Some(false), 1), "it is no news any more");
        let mut script = Script::of(vec![sample(&[]), sample(&[])]);
        assert_eq!(script.look(&[]), (Some(false), 2));
    }

    #[test]
    fn up_is_withheld_where_no_two_samples_agree() {
        let restless = (1..=9).map(|number| sample(&[master().reload(number)])).collect();
        let mut script = Script::of(restless);
        let look = script.confirm_down(&[]);
        let service = look.verdict.one();
        assert_eq!((service.up, script.next), (None, MOST_ATTEMPTS));
        // And with it what would follow from being down.
        assert!(service.judged.is_empty() && service.protocols_known.is_empty());
    }

    /// There is one limit for both: samples that are torn and falls that are not confirmed.
    #[test]
    fn a_torn_sample_is_judged_only_when_there_is_no_other() {
        let serving = || [master(), worker(11).tcp(80, 1)];
        let mut script = Script::of(vec![torn(&serving()), torn(&[master()]), sample(&serving())]);
        assert_eq!((script.look(&[]), script.judged), ((Some(true), 3), 1));
        let fallen = || sample(&[master()]);
        let mut script = Script::of(vec![torn(&[master()]), fallen(), torn(&[]), fallen()]);
        assert_eq!((script.look(&[]), script.judged), ((Some(false), 4), 2));
        let mut script = Script::of((0..9).map(|_| torn(&[master()])).collect());
        assert_eq!((script.look(&[]), script.judged), ((None, MOST_ATTEMPTS), 1));
    }

    /// A user starts and ends processes without end.
    #[test]
    fn what_other_users_do_delays_no_confirmation() {
        let torn_by_a_user = |actors: &[Actor]| {
            let mut sample = sample(actors);
            sample.gaps.torn_by.insert(65_534);
            sample
        };
        let fallen = || torn_by_a_user(&[master()]);
        let mut script = Script::of((0..9).map(|_| fallen()).collect());
        assert_eq!(script.look(&[]), (Some(false), ATTEMPTS_FOR_USERS));
        let serving = || torn_by_a_user(&[master(), worker(11).tcp(80, 1)]);
        let mut script = Script::of((0..9).map(|_| serving()).collect());
        assert_eq!(script.look(&[]), (Some(true), ATTEMPTS_FOR_USERS));
        let quiet = || sample(&[master(), worker(11).tcp(80, 1)]);
        let mut script = Script::of(vec![serving(), quiet()]);
        assert_eq!(script.look(&[]), (Some(true), 2));
    }

    /// A service that never comes to rest does not keep another one from being called down.
    #[test]
    fn each_service_is_confirmed_for_itself() {
        let second = |number| actor(30, 100 + number, "haproxy -W -f /b").reload(number);
        let both = |number| sample(&[master().reload(number), second(number)]);
        let one = |number| sample(&[master(), second(number)]);
        let up = |samples: Vec<Snapshot>| {
            let look = Script::of(samples).confirm_down(&[]);
            look.verdict.services.iter().map(|h| (h.name.clone(), h.up)).collect::<Vec<_>>()
        };
        let named = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
        assert_eq!(up((1..=8).map(both).collect()), named(None, None));
        assert_eq!(up((1..=8).map(one).collect()), named(Some(false), None));
    }
}
