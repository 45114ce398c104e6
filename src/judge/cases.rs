//! Judges a sample in two steps: first which services it shows and which details to look up, then
//! what is wrong with each.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, PortSockets};
use super::identify;
use super::memory::{Memory, ServiceMemory, remember};
use super::owners::Owners;
use super::roster::Nameless;
use super::sharing::sharing;
use super::verdict::Verdict;
use super::{gone, living};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Member;
use crate::haproxy::listeners::Holding;
use crate::haproxy::places::Endpoint;
use crate::model::{Details, NamespaceId, ProcessId, Snapshot, Unreadable};
use crate::policy::Policy;

/// The details to look up before a sample is judged: too costly to look up for everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FollowUps {
    /// The living stale processes, whose connections are asked for.
    pub stale: BTreeSet<ProcessId>,
    /// Ports that are declared and not bound, by network namespace: the sockets on them are asked for.
    /// The declared ports of a service that is gone are among them while it is remembered.
    pub unbound: BTreeMap<NamespaceId, BTreeSet<u16>>,
}

/// A sample whose services are identified, and not judged yet.
#[derive(Debug)]
pub struct Cases<'a> {
    now: &'a Snapshot,
    holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
    memory: &'a Memory,
    policy: &'a Policy,
    services: Vec<Case<'a>>,
    nameless: Vec<Nameless<'a>>,
}

impl<'a> Cases<'a> {
    /// Identifies the services of a sample. `holdings` are what its processes hold.
    #[must_use]
    pub fn open(
        now: &'a Snapshot,
        holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
        memory: &'a Memory,
        policy: &'a Policy,
    ) -> Cases<'a> {
        let (services, nameless) = identify::identify(now, holdings, memory, policy);
        Cases { now, holdings, memory, policy, services, nameless }
    }

    /// The details that [`Cases::judge`] needs.
    #[must_use]
    pub fn follow_ups(&self) -> FollowUps {
        let stale = self.services.iter().flat_map(|case| case.living(Generation::Stale));
        FollowUps { stale: stale.map(Member::id).collect(), unbound: self.unbound_ports() }
    }

    fn unbound_ports(&self) -> BTreeMap<NamespaceId, BTreeSet<u16>> {
        let mut wanted: BTreeMap<NamespaceId, BTreeSet<u16>> = BTreeMap::new();
        let mut want = |endpoint: &Endpoint| {
            wanted.entry(endpoint.network).or_default().insert(endpoint.port);
        };
        self.services.iter().flat_map(|case| &case.unbound).for_each(&mut want);
        let alive = self.continued();
        for (name, before) in &self.memory.services {
            let alive = alive.contains(name.as_str());
            if let (false, Some(configuration)) = (alive, &before.configuration) {
                let declared = before.places.endpoints(&configuration.ports);
                declared.take(before.most_endpoints()).for_each(|endpoint| want(&endpoint));
            }
        }
        wanted
    }

    /// Judges the sample by the memory of the last one and by the details that were looked up;
    /// returns the verdict and the memory for the next sample.
    #[must_use]
    pub fn judge(mut self, details: &'a Details) -> (Verdict, Memory) {
        self.services.iter_mut().for_each(|case| case.details = details);
        let (now, memory) = (self.now, self.memory);
        let owners = Owners::of(&self.services, details);
        let unreadable = now.unreadable.iter().chain(&details.unreadable);
        let mut verdict = Verdict {
            taken: now.taken,
            services: Vec::new(),
            unreadable: unreadable.map(Unreadable::shown).collect(),
            expired_ignores: self.policy.expired_ignores(now.taken).cloned().collect(),
            collectors: now.collectors.clone(),
        };
        let mut remembered = Memory { booted: Some(now.booted), ..Memory::default() };
        self.judge_living(&owners, &mut verdict, &mut remembered);
        self.remember_processes(&mut remembered);
        let (seen, living) = ((now, details), self.living_on());
        gone::add(seen, memory, self.policy, &owners, &living, (&mut verdict, &mut remembered));
        verdict.services.sort_by(|a, b| a.name.cmp(&b.name));
        (verdict, remembered)
    }

    /// The names that the services of the sample have now, or had in the last one.
    fn continued(&self) -> BTreeSet<&str> {
        let now = self.services.iter().map(|case| case.name.as_str());
        let before = self.services.iter().filter_map(|case| case.remembered_as.as_deref());
        now.chain(before).collect()
    }

    /// The names of the remembered services that a service of the sample continues: also those whose
    /// processes turned out to be another service's.
    fn living_on(&self) -> BTreeSet<&str> {
        let members = self.services.iter().flat_map(|case| &case.service.members);
        let pasts = members
            .filter(|member| member.lives())
            .filter_map(|member| self.memory.processes.get(&member.id()));
        let mut names = self.continued();
        names.extend(pasts.filter_map(|past| past.service.as_deref()));
        names
    }

    fn judge_living(&self, owners: &Owners<'_>, verdict: &mut Verdict, remembered: &mut Memory) {
        let ports: Vec<_> = self.services.iter().map(|case| (case, case.port_sockets())).collect();
        let sharing = sharing(&ports);
        for (case, own) in &ports {
            let others = sharing.get(case.name.as_str()).into_iter().flatten();
            let others: Vec<(&str, &[PortSockets<'_>])> = others
                .filter_map(|at| ports.get(*at))
                .map(|(other, theirs)| (other.name.as_str(), theirs.as_slice()))
                .collect();
            let before: Option<&ServiceMemory> =
                case.remembered_as.as_ref().and_then(|name| self.memory.services.get(name));
            let first_sample = self.memory.booted.is_none();
            let (service, after) = living::judge(case, own, &others, owners, before, first_sample);
            verdict.services.push(service);
            remembered.services.insert(case.name.clone(), after);
        }
    }

    fn remember_processes(&self, remembered: &mut Memory) {
        let cases = self.services.iter();
        let known = cases.map(|case| (Some(case.name.as_str()), &case.service, &case.generations));
        let nameless = self.nameless.iter();
        let unknown = nameless.map(|(service, generations)| (None, service, generations));
        for (name, service, generations) in known.chain(unknown) {
            let has_served = name
                .and_then(|name| remembered.services.get(name))
                .is_some_and(|service| service.has_served);
            for member in &service.members {
                let id = member.id();
                let (holding, past) = (self.holdings.get(&id), self.memory.processes.get(&id));
                let mut past = remember(member, name, holding, generations, past, self.now.taken);
                past.belongs |= has_served;
                remembered.processes.insert(id, past);
            }
        }
        // Also those that have ended, while a listener is lost that they held last.
        for id in self.now.gaps.last_holders() {
            if let Some(past) = self.memory.processes.get(&id) {
                remembered.processes.entry(id).or_insert_with(|| past.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::judge::verdict::ServiceVerdict;
    use crate::model::Protocol;
    use crate::policy::kind::Kind;
    use crate::policy::{Configured, Match, Rules};
    use crate::stage::{Actor, Film, actor};

    fn configured() -> Policy {
        let matching = Match { pidfile: Some("/run/p".into()), ..Match::default() };
        let entry = Configured { name: "lb".to_owned(), matching, rules: Rules::default() };
        Policy { haproxys: vec![entry], ..Policy::default() }
    }

    #[test]
    fn a_configured_service_that_is_gone_is_down() {
        let verdict = Film::with(configured()).see(1000.0, &[]);
        assert_eq!((verdict.one().name.as_str(), verdict.one().up), ("lb", Some(false)));
    }

    /// While root's service is down, any user may start a process with the same arguments.
    #[test]
    fn another_users_process_does_not_become_the_configured_service() {
        let matchings = [
            Match { config: Some("/a.cfg".into()), ..Match::default() },
            Match { master_socket: Some("/run/m".into()), ..Match::default() },
            Match { command: Some(regex::Regex::new("-f /a.cfg").unwrap()), ..Match::default() },
        ];
        for matching in matchings {
            let what = format!("{matching:?}");
            let mut policy = configured();
            policy.haproxys[0].matching = matching;
            let mut film = Film::with(policy);
            let line = "haproxy -D -f /a.cfg -S /run/m";
            let of = |pid, user| actor(pid, 1, line).of_user(user).tcp(80, 1);
            let lb = |verdict: &Verdict| {
                let lb = verdict.services.iter().find(|service| service.name == "lb").unwrap();
                (lb.up, lb.processes.first().map(|process| process.id.pid))
            };
            assert_eq!(lb(&film.settle(1000.0, &[of(10, 0)])), (Some(true), Some(10)), "{what}");
            let impostor = film.settle(1050.0, &[of(11, 65534)]);
            assert_eq!(lb(&impostor), (Some(false), None), "{what}");
            let back = film.settle(1100.0, &[of(11, 65534), of(12, 0)]);
            assert_eq!(lb(&back), (Some(true), Some(12)), "{what}");
        }
        let mut film = Film::with(configured_by_command());
        let own = actor(10, 1, "haproxy -D -f /a.cfg").of_user(65534).tcp(80, 1);
        assert_eq!(film.settle(1000.0, &[own]).one().name, "lb", "it was never root's");
    }

    fn configured_by_command() -> Policy {
        let command = regex::Regex::new("-f /a.cfg").unwrap();
        let mut policy = configured();
        policy.haproxys[0].matching = Match { command: Some(command), ..Match::default() };
        policy
    }

    #[test]
    fn an_unreadable_process_may_be_the_configured_service() {
        let hidden = actor(10, 995, "haproxy -D -f a.cfg -p p").unseen();
        let verdict = Film::with(configured()).see(1000.0, &[hidden]);
        let lb = verdict.services.iter().find(|service| service.name == "lb").unwrap();
        assert_eq!((lb.up, lb.generations, lb.judged.len()), (None, None, 0));
        assert_eq!(verdict.services.len(), 2, "the process is shown under a name of its own");
    }

    /// Its descriptors have not been read yet, so it may or may not hold listeners.
    #[test]
    fn a_launcher_is_no_service_of_its_own() {
        let line = "haproxy -D -f /a.cfg -p /run/p";
        let serving = || actor(10, 1, line).tcp(80, 1);
        let launcher = actor(20, 999, "haproxy -D -f /b.cfg -p /run/q").change(|process| {
            process.session = 5;
            process.sockets = None;
        });
        let mut film = Film::default();
        film.see(990.0, &[serving()]);
        let verdict = film.see(1000.0, &[serving(), launcher]);
        let names: Vec<&str> = verdict.services.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["p"]);
    }

    /// Between the end of the old daemon and the detaching of the new one, a sample may show neither.
    #[test]
    fn a_service_that_a_torn_sample_misses_is_not_down() {
        let mut film = Film::default();
        let serving = actor(10, 100, "haproxy -D -f a.cfg -p p").tcp(80, 1);
        assert_eq!(film.settle(1000.0, &[serving]).one().up, Some(true));
        let torn = film.see_torn(1035.0, &[]);
        assert_eq!((torn.one().up, torn.one().judged.len()), (None, 0));
        assert_eq!(film.see(1040.0, &[]).one().up, Some(false));
    }

    /// The process that holds its listener now has not been searched for yet. Other services are
    /// judged as ever.
    #[test]
    fn a_service_whose_listener_has_an_unknown_holder_is_not_down() {
        let mut film = Film::default();
        let line = |name| format!("haproxy -D -f /{name}.cfg -p /run/{name}");
        let holds = |name, pid, port, inode| {
            let known = format!("frontend f\n bind :{port}\n");
            actor(pid, 100, &line(name)).configured(&known, 50).tcp(port, inode)
        };
        let without = |actor: Actor| actor.change(|p| p.sockets = Some(Arc::default()));
        let unix = 7;
        film.settle(1000.0, &[holds("p", 10, 80, 1).unix(unix), holds("q", 20, 90, 2)]);
        let let_go = || [without(holds("p", 10, 80, 1)), without(holds("q", 20, 90, 2))];
        let known = |verdict: Verdict| {
            let known = verdict.services.iter().map(|service| {
                let is_judged = service.judged(Kind::PortMissing);
                (service.up, service.protocols_known.contains(&Protocol::Tcp), is_judged)
            });
            known.collect::<Vec<_>>()
        };
        let (unknown, down) = ((None, false, false), (Some(false), true, true));
        assert_eq!(known(film.see_lost(1035.0, &let_go(), &[1])), [unknown, down]);
        assert_eq!(known(film.see_lost(1040.0, &let_go(), &[2])), [down, unknown]);
        assert_eq!(known(film.see_lost(1045.0, &let_go(), &[unix])), [unknown, down]);
        assert_eq!(known(film.see(1050.0, &let_go())), [down, down]);
    }

    /// Its worker is not in the sample, so a port that no process holds may be bound nevertheless.
    #[test]
    fn a_torn_sample_claims_nothing_about_the_ports_of_a_service_that_seems_down() {
        let mut film = Film::default();
        let known = "frontend f\n bind :80\n";
        let master = || actor(10, 100, "haproxy -W -f /a").configured(known, 50);
        let serving = [master(), actor(11, 100, "haproxy -W -f /a").child_of(10).tcp(80, 1)];
        assert_eq!(film.settle(1000.0, &serving).one().up, Some(true));
        let torn = film.see_torn(1035.0, &[master()]);
        assert_eq!((torn.one().up, torn.one().protocols_known.len()), (None, 0));
        for kind in [Kind::PortMissing, Kind::PortStaleListener, Kind::PortSplit] {
            assert!(!torn.one().judged(kind), "{}", kind.as_str());
        }
        let torn = film.see_torn(1040.0, &serving);
        assert_eq!((torn.one().up, torn.one().protocols_known.len()), (Some(true), 2));
    }

    /// None of its processes is left, but its listener may be held by a process that is not known to
    /// be HAProxy.
    #[test]
    fn a_service_that_is_gone_is_not_down_while_its_listener_has_an_unknown_holder() {
        let mut film = Film::default();
        let other = || actor(20, 100, "haproxy -D -f /q.cfg -p /run/q").tcp(90, 2);
        let gone = actor(10, 100, "haproxy -D -f /p.cfg -p /run/p").tcp(80, 1);
        film.settle(1000.0, &[gone, other()]);
        let still_bound = other().tcp(80, 1).change(|p| p.sockets = Some(Arc::new([2].into())));
        let told = |verdict: Verdict| {
            let told = verdict.services.iter().map(|h| (h.up, h.protocols_known.len()));
            told.collect::<Vec<_>>()
        };
        // However long the search takes, the other service is not affected.
        for taken in [1035.0, 1040.0, 1045.0] {
            let lost = film.see_lost(taken, std::slice::from_ref(&still_bound), &[1]);
            assert_eq!(told(lost), [(None, 0), (Some(true), 2)], "{taken}");
        }
        assert_eq!(told(film.see(1050.0, &[other()])), [(Some(false), 2), (Some(true), 2)]);
    }

    /// Of two services from one file, one has the plain name. The other does not take it while the
    /// first is down: that would hide the outage.
    #[test]
    fn a_service_that_is_down_keeps_its_name() {
        let text = "frontend f\n bind :\"${PORT}\"\n";
        let twin = |pid: i32, port: u16| {
            let serving = actor(pid, 100, "haproxy -D -f /a.cfg").tcp(port, u64::from(port));
            serving.configured(text, 50).variable("PORT", &port.to_string())
        };
        let name_of = |verdict: &Verdict, pid: i32| {
            let has = |service: &&ServiceVerdict| service.processes.iter().any(|p| p.id.pid == pid);
            verdict.services.iter().find(has).map(|service| service.name.clone())
        };
        let mut film = Film::default();
        let both = film.settle(1000.0, &[twin(10, 81), twin(20, 82)]);
        let (first, second) = (name_of(&both, 10).unwrap(), name_of(&both, 20).unwrap());
        assert_eq!((first.as_str(), second == first), ("a", false));
        let alone = film.settle(1050.0, &[twin(20, 82)]);
        assert_eq!(name_of(&alone, 20).as_ref(), Some(&second));
        let down = alone.services.iter().find(|service| service.name == first).unwrap();
        assert_eq!(down.up, Some(false));
        let back = film.settle(1100.0, &[twin(11, 81), twin(20, 82)]);
        let second_now = Some(second.clone());
        assert_eq!((name_of(&back, 11), name_of(&back, 20)), (Some(first), second_now));
        let mut film = Film::default();
        film.settle(1000.0, &[twin(20, 82)]);
        let brief = film.see(1031.0, &[twin(10, 81), twin(20, 82)]);
        assert_eq!(name_of(&brief, 10).as_deref(), Some("a"));
        for taken in (1045..1145).step_by(20) {
            let alone = film.see(taken.into(), &[twin(20, 82)]);
            assert_eq!(name_of(&alone, 20).as_ref(), Some(&second), "however briefly it served");
        }
        let mut film = Film::default();
        film.settle(1000.0, &[twin(11, 81), twin(20, 82)]);
        let forgotten = Policy::default().rules("a").forget_after_seconds;
        film.see(1100.0 + 2.0 * forgotten, &[twin(20, 82)]);
        let left = film.see(1200.0 + 3.0 * forgotten, &[twin(20, 82)]);
        assert_eq!(name_of(&left, 20).as_deref(), Some("a"), "it is the only one again");
    }

    #[test]
    fn a_known_service_keeps_its_name_when_rights_are_lost() {
        let mut film = Film::with(configured());
        let seen = actor(10, 1, "haproxy -D -f /a.cfg -p /run/p").pidfile(&[10]).tcp(80, 1);
        film.see(1000.0, std::slice::from_ref(&seen));
        let verdict = film.see(1005.0, &[seen.change(|p| p.pidfile = None).unseen()]);
        assert_eq!((verdict.one().name.as_str(), verdict.one().up), ("lb", None));
    }

    #[test]
    fn a_service_whose_master_is_executing_keeps_its_name() {
        let mut film = Film::with(configured());
        let master = || actor(10, 1, "haproxy -W -f /a.cfg -p /run/p").pidfile(&[10]);
        let worker = || actor(11, 2, "haproxy -W -f /a.cfg -p /run/p").child_of(10).tcp(80, 1);
        film.see(1000.0, &[master(), worker()]);
        let executing = master().change(|process| {
            process.arguments = None;
            process.pidfile = None;
        });
        let verdict = film.see(1005.0, &[executing, worker()]);
        assert_eq!((verdict.one().name.as_str(), verdict.one().up), ("lb", Some(true)));
    }
}
