//! Gathers the services of a sample, gives them their names, and finds what is remembered of them.

use std::collections::{BTreeMap, BTreeSet};

use super::matching;
use super::memory::{Memory, ServiceMemory};
use crate::haproxy::lineage::generations::Generations;
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::Member;
use crate::haproxy::lineage::naming::{self, Candidate};
use crate::haproxy::lineage::remembered::Remembered;
use crate::haproxy::lineage::services::Service;
use crate::model::time::YOUNG_SECONDS;
use crate::policy::Policy;

/// Processes that are not a service yet, because they are just being started or just dying.
pub type Nameless<'a> = (Service<'a>, Generations);

/// A service of the roster, with what is known of it.
pub(super) struct Entry<'a> {
    pub service: Service<'a>,
    pub generations: Generations,
    pub identity: Identity,
    /// What it would be called if it were not configured.
    pub candidate: Candidate,
    /// The operator's name for it, if its match fits.
    configured: Option<&'a str>,
    /// The name under which it is remembered.
    pub remembered_as: Option<String>,
}

impl Entry<'_> {
    /// Of several services that one `match` fits, root's comes first, then one that serves.
    fn rank(&self) -> impl Ord + '_ {
        let (is_others, path, distinction, oldest) = self.candidate.rank();
        (is_others, self.generations.up != Some(true), path, distinction, oldest)
    }
}

/// The services of a sample, until they have their names.
pub(super) struct Roster<'a> {
    memory: &'a Memory,
    /// The names that the members are remembered by.
    remembered: Remembered<'a>,
    policy: &'a Policy,
    now: f64,
    known: Vec<Entry<'a>>,
    /// Where in `known` is the service that continues the one of a name.
    continued: BTreeMap<String, usize>,
    nameless: Vec<Nameless<'a>>,
}

impl<'a> Roster<'a> {
    /// No service yet, and the processes that are just dying.
    pub fn new(
        memory: &'a Memory,
        policy: &'a Policy,
        remembered: Remembered<'a>,
        now: f64,
        dying: Service<'a>,
    ) -> Roster<'a> {
        let (known, continued) = (Vec::new(), BTreeMap::new());
        let nameless = vec![(dying, Generations::default())];
        Roster { memory, remembered, policy, now, known, continued, nameless }
    }

    fn add(&mut self, known: Entry<'a>) {
        if let Some(name) = known.remembered_as.clone() {
            self.continued.insert(name, self.known.len());
        }
        self.known.push(known);
    }

    /// Adds a service with processes that live.
    pub fn add_living(&mut self, generations: Generations, service: Service<'a>) {
        let known = self.look_up(service, generations);
        let is_new = known.remembered_as.is_none() && known.configured.is_none();
        if is_new && !self.admits(&known) {
            self.nameless.push((known.service, known.generations));
        } else {
            self.add(known);
        }
    }

    /// Adds a service whose processes are all dead. Its zombies go to the service that continues theirs, if
    /// there is one; otherwise they are shown once one of them was started at least ten seconds ago.
    pub fn add_dead(&mut self, generations: Generations, service: Service<'a>) {
        let known = self.look_up(service, generations);
        let name = self.name_before(&known.service);
        let home = name.and_then(|name| self.continued.get(name)).copied();
        if let Some(home) = home.and_then(|home| self.known.get_mut(home)) {
            home.service.members.extend(known.service.members);
            home.service.members.sort_by_key(Member::id);
            home.generations.of.extend(known.generations.of);
        } else if self.admits(&known) {
            self.add(known);
        } else {
            self.nameless.push((known.service, known.generations));
        }
    }

    fn look_up(&self, service: Service<'a>, generations: Generations) -> Entry<'a> {
        let identity = Identity::of(&service, &generations);
        let is_others = |name: &str| self.was_roots(name) && !matching::is_trusted(&identity);
        let configured = matching::configured(self.policy, &service, &identity)
            .filter(|configured| !is_others(&configured.name));
        let before = self.name_before(&service);
        let is_free = |name: &&str| !self.continued.contains_key(*name);
        let remembered_as = before.filter(is_free).map(str::to_owned);
        Entry {
            candidate: Candidate {
                known_as: remembered_as.clone(),
                ..identity.candidate(&service)
            },
            configured: configured.map(|configured| configured.name.as_str()),
            remembered_as,
            service,
            generations,
            identity,
        }
    }

    /// Root started the service that last had this configured name. While it is down, another user's
    /// process that claims its configuration, its command line or its socket does not become it.
    fn was_roots(&self, name: &str) -> bool {
        self.memory.services.get(name).is_some_and(|before| before.identity.starter == Some(0))
    }

    /// The name of its processes in the last sample.
    fn name_before(&self, service: &Service<'_>) -> Option<&'a str> {
        let memory = self.memory;
        let mut before = service.members.iter().filter_map(|m| self.remembered.get(m.id()));
        before.find(|name| memory.services.contains_key(*name))
    }

    /// Whether these processes count as a service of their own. A process that is just being started may turn
    /// out to be part of a known service, so it counts once it serves, once it has lived for ten seconds, or
    /// if it cannot be seen whether it serves and no service like it is known. Zombies count once one of them was
    /// started that long ago.
    fn admits(&self, entry: &Entry<'_>) -> bool {
        let Entry { service, generations, candidate, .. } = entry;
        let members = || service.members.iter();
        let stays = |member: &Member<'_>| self.now - member.process.started >= YOUNG_SECONDS;
        if !members().any(Member::lives) {
            return members().any(stays);
        }
        let mut living = members().filter(|member| member.lives());
        // What a launcher holds may be unseen, but its child will be the service.
        let launches = members().filter(|member| member.lives()).all(|member| member.launching);
        // One without arguments is in the middle of execve(2), or of its end: the next sample tells which.
        let has_arguments = members().all(|member| !member.lives() || member.line.is_some());
        let mark = candidate.hash();
        let is_known = || self.memory.services.values().any(|before| before.mark == mark);
        let unseen = generations.up.is_none() && !launches && has_arguments && !is_known();
        generations.up == Some(true) || unseen || living.all(stays)
    }

    /// The names of services that have no process now and may come back.
    ///
    /// A service that was seen only for a moment may have been a starting process of another service, or the
    /// exporter has only just started. Unless its process is now in another service, its name is kept if it served,
    /// and otherwise for ten seconds.
    fn gone(&self) -> BTreeSet<&'a str> {
        let memory = self.memory;
        let members = self.known.iter().flat_map(|known| &known.service.members);
        let past = |member: &Member<'a>| memory.processes.get(&member.id())?.service.as_deref();
        let moved: BTreeSet<&str> = members.filter_map(past).collect();
        let may_come_back = |name: &str, before: &ServiceMemory| {
            let is_recent = self.now - before.last_seen < YOUNG_SECONDS;
            before.last_seen - before.first_seen >= YOUNG_SECONDS
                || ((is_recent || before.has_served) && !moved.contains(name))
        };
        let names = memory.services.iter().filter(|(name, before)| may_come_back(name, before));
        names.map(|(name, _)| name.as_str()).filter(|n| !self.continued.contains_key(*n)).collect()
    }

    /// Names all services: configured names first; then a service that could not be looked at keeps its
    /// name; a hash distinguishes services that would share a name.
    pub fn name(self) -> (Vec<(String, Entry<'a>)>, Vec<Nameless<'a>>) {
        let gone = self.gone();
        let Roster { memory, policy, known, continued, nameless, .. } = self;
        let mut named: Vec<(String, Entry<'a>)> = Vec::new();
        let mut taken: BTreeSet<String> = policy.haproxys.iter().map(|c| c.name.clone()).collect();
        let (mut configured, mut rest): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|known| known.configured.is_some());
        configured.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut given: BTreeSet<&str> = BTreeSet::new();
        for known in configured {
            match known.configured.filter(|name| given.insert(name)) {
                Some(name) => named.push((name.to_owned(), known)),
                None => rest.push(known),
            }
        }
        let (hidden, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|known| {
            let name = known.remembered_as.as_deref();
            is_unseen(&known.service) && name.is_some_and(|name| !given.contains(name))
        });
        for known in hidden {
            let name = known.remembered_as.clone().unwrap_or_default();
            taken.insert(name.clone());
            named.push((name, known));
        }
        let candidates: Vec<Candidate> = rest.iter().map(|known| known.candidate.clone()).collect();
        named.extend(naming::assign(&candidates, taken, &gone).into_iter().zip(rest));
        recognise(&mut named, memory, continued.into_keys().collect());
        (named, nameless)
    }
}

/// Finds what is remembered of services that were gone and have come back: by what distinguishes them, and only then
/// by their names, which two that come back together may have exchanged. `continued` has the names of services that
/// are already linked, by their processes, to the ones of the last sample.
fn recognise(named: &mut [(String, Entry<'_>)], memory: &Memory, mut continued: BTreeSet<String>) {
    let mut back: Vec<_> =
        named.iter_mut().filter(|(_, known)| known.remembered_as.is_none()).collect();
    if back.is_empty() {
        return;
    }
    let mut gone: BTreeMap<(String, Option<u32>), Vec<&str>> = BTreeMap::new();
    for (name, before) in memory.services.iter().filter(|(name, _)| !continued.contains(*name)) {
        gone.entry((before.mark.clone(), before.identity.starter)).or_default().push(name);
    }
    for (name, known) in back.iter_mut().filter(|(_, known)| known.configured.is_none()) {
        let mark = (known.candidate.hash(), known.identity.starter);
        let Some(alike) = gone.get_mut(&mark) else { continue };
        let own = alike.iter().position(|other| other == name);
        if let Some(at) = own.or((!alike.is_empty()).then_some(0)) {
            let before = alike.remove(at).to_owned();
            continued.insert(before.clone());
            known.remembered_as = Some(before);
        }
    }
    let may_continue =
        |name: &String| !continued.contains(name) && memory.services.contains_key(name);
    for (name, known) in back.iter_mut().filter(|(name, _)| may_continue(name)) {
        known.remembered_as.get_or_insert_with(|| name.clone());
    }
}

/// Some of it could not be looked at, or was just being executed and had no arguments yet, so
/// what is configured may not be recognised.
fn is_unseen(service: &Service<'_>) -> bool {
    let unseen = |member: &Member<'_>| member.process.root.is_none() || member.line.is_none();
    service.members.iter().any(|member| member.lives() && unseen(member))
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::Verdict;
    use crate::model::NamespaceId;
    use crate::stage::{Actor, Film, actor};

    /// One of several services from one file, which the port in its environment tells apart.
    fn twin(pid: i32, started: u32, port: u16, list: &str) -> Actor {
        let serving = actor(pid, started, &format!("haproxy -D -f /a.cfg {list}"));
        let serving = serving.tcp(port, pid.unsigned_abs().into());
        let text = "frontend f\n bind :\"${PORT}\"\n";
        serving.configured(text, 50).variable("PORT", &port.to_string())
    }

    fn successes(verdict: &Verdict) -> Vec<(String, u64)> {
        verdict.services.iter().map(|one| (one.name.clone(), one.reloads.successes)).collect()
    }

    fn by_port(verdict: &Verdict) -> Vec<(u16, u64)> {
        let services = verdict.services.iter();
        services.map(|one| (one.ports[0].key.port, one.reloads.successes)).collect()
    }

    /// Whichever of two pods of one Deployment is replaced, with another suffix and in new namespaces, the node has the
    /// same two names, and no third that is down.
    #[test]
    fn copies_of_a_pod_keep_their_names_when_one_is_replaced() {
        let pod = |pid: i32, started: u32, port: u16, suffix: &str| {
            let place = Some(NamespaceId(pid.unsigned_abs().into()));
            actor(pid, started, "haproxy -D -p /run/h.pid -f /etc/h.cfg")
                .tcp(port, pid.unsigned_abs().into())
                .variable("HOSTNAME", &format!("lbagent-7c9f8d6b5-{suffix}"))
                .variable("KUBERNETES_SERVICE_HOST", "10.96.0.1")
                .change(|p| (p.mount_namespace, p.pid_namespace) = (place, place))
                .change(|p| p.namespace_pids.push(1))
        };
        let (first, second) = (pod(10, 100, 8001, "x2x4z"), pod(20, 110, 8002, "9kq2p"));
        let (third, fourth) = (pod(30, 1060, 8002, "7xw8d"), pod(40, 1160, 8001, "m4tgn"));
        let mut film = Film::default();
        let both = film.settle(1000.0, &[first.clone(), second]);
        let names: Vec<_> = both.services.iter().map(|service| service.name.clone()).collect();
        assert!(names.len() == 2 && names.contains(&"lbagent".to_owned()), "{names:?}");
        film.settle(1050.0, std::slice::from_ref(&first));
        for (taken, pods) in [(1100.0, [first, third.clone()]), (1200.0, [third.clone(), fourth])] {
            let verdict = film.settle(taken, &pods);
            let now: Vec<_> =
                verdict.services.iter().map(|one| (one.name.clone(), one.up)).collect();
            let expected: Vec<_> = names.iter().map(|name| (name.clone(), Some(true))).collect();
            assert_eq!(now, expected, "at {taken}");
            film.settle(taken + 50.0, std::slice::from_ref(&third));
        }
    }

    /// A run that is over at once, such as one of `haproxy -c`, has neither arguments nor files left while it ends.
    #[test]
    fn a_process_that_is_ending_is_no_service() {
        let serving = || twin(10, 995, 81, "");
        let ending = actor(20, 1000, "haproxy -c -f /b.cfg").unseen();
        let ending = ending.change(|process| process.arguments = None);
        let mut film = Film::default();
        film.see(1000.0, &[serving()]);
        for actors in [vec![serving(), ending], vec![serving()]] {
            assert_eq!(successes(&film.see(1001.0, &actors)), [("a".to_owned(), 0)]);
        }
    }

    /// An exporter that has just begun sees one of two services between two of its processes: the other does not
    /// take its name meanwhile, and the reload is counted.
    #[test]
    fn a_service_in_the_middle_of_a_reload_keeps_its_name() {
        let other = || twin(20, 990, 82, "");
        let mut film = Film::default();
        let both = film.see(1000.0, &[twin(10, 995, 81, ""), other()]);
        let before = successes(&both);
        assert_eq!(before.first(), Some(&("a".to_owned(), 0)));
        assert_eq!(successes(&film.see(1001.0, &[other()])), before);
        let after = film.see(1002.0, &[twin(11, 1001, 81, "-sf 10"), other()]);
        assert_eq!(after.services.iter().filter(|one| one.up == Some(true)).count(), 2);
        let mut expected = before;
        expected[0].1 = 1;
        assert_eq!(successes(&after), expected);
    }

    /// One of two, seen for a moment only, is away. The other does not take its name, however long that lasts, and when
    /// both come back with nothing that links their processes to those before, each has its own counters.
    #[test]
    fn a_service_that_was_seen_serving_keeps_its_name_while_it_is_away() {
        let mut film = Film::default();
        let before = successes(&film.see(1000.0, &[twin(10, 995, 81, ""), twin(20, 990, 82, "")]));
        for taken in (1010..1060).step_by(10) {
            let verdict = film.see(taken.into(), &[twin(20, 990, 82, "")]);
            assert_eq!(successes(&verdict), before, "at {taken}");
        }
        let both = film.see(1060.0, &[twin(12, 1056, 81, "-sf 11"), twin(22, 1056, 82, "-sf 21")]);
        assert_eq!(by_port(&both), [(81, 1), (82, 1)]);
    }

    /// The exporter began while one of two was between its processes, so that the other had its name at first. Nothing
    /// links their processes to those before.
    #[test]
    fn a_service_that_comes_back_beside_another_is_not_taken_for_it() {
        let mut film = Film::default();
        film.see(1000.0, &[twin(20, 990, 82, "")]);
        let both = film.see(1003.0, &[twin(12, 1002, 81, "-sf 11"), twin(22, 1002, 82, "-sf 21")]);
        assert_eq!(by_port(&both), [(81, 0), (82, 1)]);
    }
}
