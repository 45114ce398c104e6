//! Which haproxys a sample shows, and what they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::case::Case;
use super::matching;
use super::memory::Memory;
use super::verdict::Origin;
use crate::haproxy::lineage::generations::{self, Generation, Generations};
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::{Member, Role, YOUNG_SECONDS};
use crate::haproxy::lineage::past::Pasts;
use crate::haproxy::lineage::roles;
use crate::haproxy::lineage::services::{self, Service};
use crate::haproxy::listeners::{Holding, Listening};
use crate::haproxy::places::Places;
use crate::model::{Configuration, Details, NamespaceId, ProcessId, Protocol, Snapshot};
use crate::policy::Policy;

/// What is known of it before anybody looks.
static NOT_LOOKED: Details = Details::none();

/// Processes that are no haproxy yet: just being started, or just dying.
pub type Nameless<'a> = (Service<'a>, Generations);

/// A service with what is known of it.
struct Known<'a> {
    service: Service<'a>,
    generations: Generations,
    identity: Identity,
    origin: Origin,
}

/// Groups the processes, tells their generations apart and names what they are.
pub fn identify<'a>(
    now: &'a Snapshot,
    holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
    memory: &'a Memory,
    policy: &'a Policy,
) -> (Vec<Case<'a>>, Vec<Nameless<'a>>) {
    let pasts = &memory.processes;
    let listens =
        |id| holdings.get(&id).is_some_and(|holding: &Holding<'_>| !holding.listeners.is_empty());
    let members = roles::members(&now.processes, pasts, listens, now.taken);
    // A zombie is one that nobody has reaped by the next sample: before that it is just dying.
    let dying = |member: &Member<'_>| {
        !member.lives() && pasts.get(&member.id()).is_none_or(|past| past.zombie_since.is_none())
    };
    let (dying, members): (Vec<_>, Vec<_>) = members.into_iter().partition(dying);
    let (living, dead): (Vec<_>, Vec<_>) = services::group(members, holdings, pasts)
        .into_iter()
        .partition(|service: &Service<'_>| service.members.iter().any(Member::lives));
    let mut census = Census {
        memory,
        policy,
        now: now.taken,
        named: Vec::new(),
        nameless: vec![(Service::of(dying), Generations::default())],
    };
    let classify =
        |service: &Service<'_>| generations::classify(service, holdings, pasts, now.taken);
    census.add_living(living.into_iter().map(|service| (classify(&service), service)).collect());
    for service in dead {
        census.add_dead(classify(&service), service);
    }
    let cases = census.named.into_iter().map(|(name, known)| {
        let before = memory.services.get(&name);
        let mut case = Case {
            configuration: configuration(&known.service, &known.generations),
            places: places(&known.service, &known.generations, before.map(|before| &before.places)),
            rules: policy.rules(&name),
            udp_ports: before.map(|b| Arc::clone(&b.udp_ports)).unwrap_or_default(),
            tcp_ports: before.map(|b| Arc::clone(&b.tcp_ports)).unwrap_or_default(),
            name,
            origin: known.origin,
            identity: known.identity,
            service: known.service,
            generations: known.generations,
            snapshot: now,
            holdings,
            pasts,
            overlooked: false,
            unbound: Vec::new(),
            details: &NOT_LOOKED,
        };
        learn_ports(&mut case);
        case.overlooked = is_overlooked(&case);
        if case.overlooked {
            case.generations.up = case.generations.up.filter(|&up| up);
        }
        let declared = case.configuration.as_ref();
        case.unbound = declared.map(|ports| case.unbound_of(ports)).unwrap_or_default();
        case
    });
    (cases.collect(), census.nameless)
}

/// Whether the sample may have missed a process of it, or a listener that one of them holds.
fn is_overlooked(case: &Case<'_>) -> bool {
    let gaps = &case.snapshot.gaps;
    let serves = case.generations.up == Some(true);
    let is_own = |id| case.member(id).is_some() || belonged_to(&case.name, id, case.pasts);
    gaps.torn && !serves || gaps.may_have_lost(is_own)
}

/// Whether a process belonged to the haproxy of this name when it was last seen. One that belonged
/// to none may be any haproxy's.
pub fn belonged_to(name: &str, id: ProcessId, pasts: &Pasts) -> bool {
    let haproxy = pasts.get(&id).and_then(|past| past.haproxy.as_deref());
    haproxy.is_none_or(|haproxy| haproxy == name)
}

/// What it listens on is nothing new most of the time, and then nothing is copied.
fn learn_ports(case: &mut Case<'_>) {
    let (mut tcp_ports, mut udp_ports) = (Arc::clone(&case.tcp_ports), Arc::clone(&case.udp_ports));
    for (_, Listening { network, socket }) in case.listening() {
        let (tcp, udp) = ((*network, socket.port), socket.port);
        match socket.protocol {
            Protocol::Tcp if tcp_ports.contains(&tcp) => false,
            Protocol::Tcp => Arc::make_mut(&mut tcp_ports).insert(tcp),
            Protocol::Udp if udp_ports.contains(&udp) => false,
            Protocol::Udp => Arc::make_mut(&mut udp_ports).insert(udp),
        };
    }
    (case.tcp_ports, case.udp_ports) = (tcp_ports, udp_ports);
}

/// Where it binds: what its processes say now counts more than what they said before.
fn places(service: &Service<'_>, generations: &Generations, before: Option<&Places>) -> Places {
    let mut places = Places {
        home: network(service, generations)
            .or_else(|| before.and_then(|before| before.home))
            .or_else(|| service.members.iter().find_map(|m| m.process.net_namespace)),
        ..Places::default()
    };
    service.members.iter().rev().for_each(|member| places.learn(member.process));
    for (name, network) in before.iter().flat_map(|before| &before.named) {
        places.named.entry(name.clone()).or_insert(*network);
    }
    places
}

/// The network namespace of what serves.
fn network(service: &Service<'_>, generations: &Generations) -> Option<NamespaceId> {
    let mut current: Vec<_> = service
        .members
        .iter()
        .filter(|m| m.lives() && generations.get(m.id()) == Generation::Current)
        .collect();
    current.sort_by_key(|member| member.role == Role::Master);
    current.first().and_then(|member| member.process.net_namespace)
}

/// The configuration of what speaks for the service: its master, else what serves.
fn configuration(service: &Service<'_>, generations: &Generations) -> Option<Arc<Configuration>> {
    let mut speakers: Vec<&Member<'_>> = service.members.iter().rev().collect();
    speakers.sort_by_key(|member| {
        let current = generations.get(member.id()) == Generation::Current;
        (member.role != Role::Master, !current)
    });
    speakers.iter().find_map(|member| member.process.configuration.clone())
}

/// Some of it could not be looked at, or was just being executed and had no arguments yet, so
/// what is configured may not be recognised.
fn is_unseen(service: &Service<'_>) -> bool {
    let unseen = |member: &Member<'_>| member.process.root.is_none() || member.line.is_none();
    service.members.iter().any(|member| member.lives() && unseen(member))
}

/// Gathers services and gives them names. Names go first to what has a configured one, then to
/// what had one before, then to what lives; a hash tells apart what would share one.
struct Census<'a> {
    memory: &'a Memory,
    policy: &'a Policy,
    now: f64,
    named: Vec<(String, Known<'a>)>,
    nameless: Vec<Nameless<'a>>,
}

impl<'a> Census<'a> {
    fn add_living(&mut self, services: Vec<(Generations, Service<'a>)>) {
        let mut unnamed = Vec::new();
        for (generations, service) in services {
            let identity = Identity::of(&service, &generations);
            let configured = matching::configured(self.policy, &service, &identity);
            let known = self.known_name(&service);
            if known.is_none() && configured.is_none() && !self.admits(&service, &generations) {
                self.nameless.push((service, generations));
                continue;
            }
            let name = match (configured, known) {
                (Some(configured), _) if self.is_free(&configured.name) => {
                    Some(configured.name.clone())
                }
                // What cannot be looked at cannot be matched either, and is what it was.
                (None, Some(name)) if !self.policy.is_configured(&name) || is_unseen(&service) => {
                    Some(name)
                }
                _ => None,
            };
            let is_configured = name.as_ref().is_some_and(|name| self.policy.is_configured(name));
            let origin = if configured.is_some() || is_configured {
                Origin::Configured
            } else {
                Origin::Discovered
            };
            let known = Known { service, generations, identity, origin };
            match name {
                Some(name) => self.named.push((name, known)),
                None => unnamed.push(known),
            }
        }
        self.name(unnamed);
    }

    /// Zombies go to the haproxy they belonged to; what nobody knew is none of any at first.
    fn add_dead(&mut self, generations: Generations, service: Service<'a>) {
        let pasts = &self.memory.processes;
        let name = service.members.iter().find_map(|m| services::remembered(m, pasts));
        if let Some((_, home)) = self.named.iter_mut().find(|(taken, _)| Some(&**taken) == name) {
            home.service.members.extend(service.members);
            home.service.members.sort_by_key(Member::id);
            home.generations.of.extend(generations.of);
            return;
        }
        if !self.admits(&service, &generations) {
            self.nameless.push((service, generations));
            return;
        }
        let identity = Identity::of(&service, &generations);
        let name = name.filter(|name| self.memory.services.contains_key(*name));
        let known = Known { service, generations, identity, origin: Origin::Discovered };
        match name {
            Some(name) => self.named.push((name.to_owned(), known)),
            None => self.name(vec![known]),
        }
    }

    /// A process that is just being started, and may be part of a haproxy that is known, is not
    /// one of its own before it serves or has stayed for a while; nor is a zombie of a run that
    /// nobody knew.
    fn admits(&self, service: &Service<'_>, generations: &Generations) -> bool {
        let members = || service.members.iter();
        let stays = |since: f64| self.now - since >= YOUNG_SECONDS;
        if !members().any(Member::lives) {
            let pasts = &self.memory.processes;
            return members().filter_map(|member| pasts.get(&member.id())?.zombie_since).any(stays);
        }
        let living = || members().filter(|member| member.lives());
        let unseen = generations.up.is_none();
        generations.up == Some(true) || unseen || living().all(|m| stays(m.process.started))
    }

    fn is_free(&self, name: &str) -> bool {
        self.named.iter().all(|(taken, _)| taken != name)
    }

    /// The name its processes had in the last sample.
    fn known_name(&self, service: &Service<'_>) -> Option<String> {
        let memory = self.memory;
        let mut before =
            service.members.iter().filter_map(|m| services::remembered(m, &memory.processes));
        let known = before.find(|name| memory.services.contains_key(*name) && self.is_free(name));
        known.map(str::to_owned)
    }

    /// Gives each its preferred name, and those that would share one a hash besides.
    fn name(&mut self, unnamed: Vec<Known<'a>>) {
        let preferred: Vec<String> =
            unnamed.iter().map(|known| known.identity.preferred_name(&known.service)).collect();
        let rivalled: BTreeSet<String> = preferred
            .iter()
            .filter(|name| preferred.iter().filter(|other| other == name).count() > 1)
            .cloned()
            .collect();
        for (known, name) in unnamed.into_iter().zip(preferred) {
            let hashed = format!("{name}-{}", known.identity.hash(&known.service));
            let needs_hash = rivalled.contains(&name)
                || self.memory.services.contains_key(&hashed)
                || self.policy.is_configured(&name)
                || !self.is_free(&name);
            let wanted = if needs_hash { hashed } else { name };
            let mut given = wanted.clone();
            let mut count = 2;
            while !self.is_free(&given) {
                given = format!("{wanted}-{count}");
                count += 1;
            }
            self.named.push((given, known));
        }
    }
}
