//! Finds the services that a sample shows, and their names.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::case::{Case, MOST_ENDPOINTS, MOST_ENDPOINTS_OF_A_USER};
use super::last_holders::LastHolders;
use super::memory::{Memory, ServiceMemory};
use super::roster::{Entry, Nameless, Roster};
use super::verdict::Origin;
use crate::haproxy::lineage::generations::{self, Generation, Generations};
use crate::haproxy::lineage::member::{Member, Role};
use crate::haproxy::lineage::remembered::Remembered;
use crate::haproxy::lineage::roles;
use crate::haproxy::lineage::services::{self, Service};
use crate::haproxy::listeners::{Holding, Listening};
use crate::haproxy::places::Places;
use crate::model::{Configuration, Details, NamespaceId, ProcessId, Protocol, Snapshot};
use crate::policy::Policy;

/// The details of a service before any were looked up.
static NOT_LOOKED: LazyLock<Details> = LazyLock::new(Details::default);

/// Groups the processes, classifies their generations and names the services.
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
    // A zombie counts if its parent has not reaped it by the next sample: before that it is just dying.
    let dying = |member: &Member<'_>| {
        !member.lives() && pasts.get(&member.id()).is_none_or(|past| past.zombie_since.is_none())
    };
    let (dying, members): (Vec<_>, Vec<_>) = members.into_iter().partition(dying);
    let remembered = Remembered::of(&members, pasts);
    let (living, dead): (Vec<_>, Vec<_>) = services::group(members, holdings, pasts, &remembered)
        .into_iter()
        .partition(|service: &Service<'_>| service.members.iter().any(Member::lives));
    let mut roster = Roster::new(memory, policy, remembered, now.taken, Service::of(dying));
    let classify =
        |service: &Service<'_>| generations::classify(service, holdings, pasts, now.taken);
    for service in living {
        roster.add_living(classify(&service), service);
    }
    for service in dead {
        roster.add_dead(classify(&service), service);
    }
    let (named, nameless) = roster.name();
    let ground = Ground { now, holdings, memory, policy };
    let last_holders = LastHolders::of(&now.gaps, pasts);
    let mut left_to: BTreeMap<u32, usize> = BTreeMap::new();
    let cases = named.into_iter().map(|(name, known)| {
        let before = known.remembered_as.as_ref().and_then(|name| memory.services.get(name));
        let mut case = ground.case(name, known, before);
        learn_ports(&mut case);
        case.overlooked = is_overlooked(&case, &last_holders, before);
        if case.overlooked {
            case.generations.up = case.generations.up.filter(|&up| up);
        }
        share_endpoints(&mut case, &mut left_to);
        let declared = case.configuration.as_ref();
        case.unbound = declared.map(|ports| case.unbound_of(ports)).unwrap_or_default();
        case
    });
    (cases.collect(), nameless)
}

/// What each case of a sample is made from.
struct Ground<'a> {
    now: &'a Snapshot,
    holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
    memory: &'a Memory,
    policy: &'a Policy,
}

impl<'a> Ground<'a> {
    /// The case of a service, before its ports are looked at. `before` is what is remembered of it.
    fn case(&self, name: String, known: Entry<'a>, before: Option<&ServiceMemory>) -> Case<'a> {
        let is_configured = self.policy.is_configured(&name);
        Case {
            configuration: configuration(&known.service, &known.generations),
            places: places(&known.service, &known.generations, before.map(|before| &before.places)),
            rules: self.policy.rules(&name),
            udp_ports: before.map(|b| Arc::clone(&b.udp_ports)).unwrap_or_default(),
            tcp_ports: before.map(|b| Arc::clone(&b.tcp_ports)).unwrap_or_default(),
            name,
            origin: if is_configured { Origin::Configured } else { Origin::Discovered },
            landed: before.and_then(|before| before.reloads.landed),
            loaded: before.and_then(|before| before.loaded.clone()),
            remembered_as: known.remembered_as,
            mark: known.candidate.hash(),
            identity: known.identity,
            service: known.service,
            generations: known.generations,
            snapshot: self.now,
            holdings: self.holdings,
            pasts: &self.memory.processes,
            overlooked: false,
            unbound: Vec::new(),
            most_endpoints: MOST_ENDPOINTS,
            details: &NOT_LOOKED,
        }
    }
}

/// Limits the declared ports that are looked at for all services of one unprivileged user together. `left_to` has what is
/// left to each user.
fn share_endpoints(case: &mut Case<'_>, left_to: &mut BTreeMap<u32, usize>) {
    let declared = case.configuration.as_ref();
    if let (Some(user), Some(declared)) = (case.identity.untrusted_starter(), declared) {
        let left = left_to.entry(user).or_insert(MOST_ENDPOINTS_OF_A_USER);
        case.most_endpoints = *left;
        *left -= declared.ports.iter().take(*left).count();
    }
}

/// Whether the sample may have missed a process of it, or a listener that one of them holds.
fn is_overlooked(
    case: &Case<'_>,
    last_holders: &LastHolders<'_>,
    before: Option<&ServiceMemory>,
) -> bool {
    let serves = case.generations.up == Some(true);
    let name = case.remembered_as.as_deref().unwrap_or(&case.name);
    let is_its = |user| {
        let runs_as =
            |member: &Member<'_>| member.process.users.is_none_or(|users| users.include(user));
        case.identity.starter.is_none_or(|starter| starter == user)
            || case.service.members.iter().any(runs_as)
            || before.is_some_and(|before| before.is_of(user))
    };
    case.snapshot.gaps.is_torn_for(is_its) && !serves
        || last_holders.include_one_of(&case.service)
        || last_holders.may_be_of(name, is_its)
}

/// Adds the ports on which the service listens now to those on which it has listened. A set is copied only
/// when a port is new to it, which is rare.
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
    let living = service.members.iter().filter(|member| member.lives());
    let current = living.filter(|m| generations.get(m.id()) == Generation::Current);
    current.min_by_key(|member| member.role == Role::Master)?.process.net_namespace
}

/// The configuration of the process that represents the service: its master, else a serving process.
fn configuration(service: &Service<'_>, generations: &Generations) -> Option<Arc<Configuration>> {
    let mut speakers: Vec<&Member<'_>> = service.members.iter().rev().collect();
    speakers.sort_by_key(|member| {
        let current = generations.get(member.id()) == Generation::Current;
        (!current, member.role != Role::Master)
    });
    speakers.iter().find_map(|member| member.process.configuration.clone())
}
