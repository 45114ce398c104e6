//! One service as the rules see it: its processes, the sockets they hold, and what was seen before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::verdict::{ConnectionCounts, Name, Origin, Port, PortKey, ProcessView, StaleState};
use crate::haproxy::binding::Ephemeral;
use crate::haproxy::environment::ReloadNumber;
use crate::haproxy::lineage::generations::{Generation, Generations};
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::{Member, Role};
use crate::haproxy::lineage::past::Pasts;
use crate::haproxy::lineage::services::Service;
use crate::haproxy::listeners::{self, Holding, Listening};
use crate::haproxy::places::{Endpoint, Places};
use crate::model::{
    BoundSocket, Configuration, Connection, ConnectionState, Details, NamespaceId,
    NetworkNamespace, ProcessId, Protocol, Snapshot,
};
use crate::policy::Rules;

/// The maximum number of declared ports of one service that one sample looks at: more than HAProxy can
/// open.
pub const MOST_ENDPOINTS: usize = 200_000;
/// The same for all services of one user other than root together. A configuration of 3 KB can declare
/// 65,535 ports at each of 200 addresses, and a user can start many processes.
pub const MOST_ENDPOINTS_OF_A_USER: usize = 50_000;
/// The same for a service of such a user that has no process left.
pub const MOST_ENDPOINTS_ONCE_GONE: usize = 1000;

/// One service of a sample, with its name.
#[derive(Debug)]
pub struct Case<'a> {
    /// The name of the service (label `haproxy`).
    pub name: String,
    /// How it came to be watched.
    pub origin: Origin,
    /// The name that it had in the last sample, if it was known then.
    pub remembered_as: Option<String>,
    /// A hash of what distinguishes it from other services of its name.
    pub(super) mark: String,
    /// The highest reload number that landed, and the master that had it.
    pub landed: Option<(ProcessId, ReloadNumber)>,
    /// The configuration that was loaded last, if that was seen.
    pub(super) loaded: Option<Loaded>,
    /// Its pidfile, configuration and other attributes that identify it.
    pub identity: Identity,
    /// Its processes.
    pub service: Service<'a>,
    /// Their generations.
    pub generations: Generations,
    /// The sample as a whole.
    pub snapshot: &'a Snapshot,
    /// The listeners that each process of the sample holds.
    pub holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
    /// What earlier samples showed of the processes.
    pub pasts: &'a Pasts,
    /// Its configuration on disk, if it could be read.
    pub configuration: Option<Arc<Configuration>>,
    /// The network namespaces in which it binds: those of the serving process, else those of the last
    /// sample, else those of a starting process.
    pub places: Places,
    /// The operator's rules for it.
    pub rules: &'a Rules,
    /// The UDP ports on which it listens or has listened.
    pub udp_ports: Arc<BTreeSet<u16>>,
    /// The TCP ports on which it listens or has listened.
    pub tcp_ports: Arc<BTreeSet<(NamespaceId, u16)>>,
    /// The sample may lack one of its processes, or a socket that one of them holds.
    pub overlooked: bool,
    /// The declared ports on which no current process listens, among the first `most_endpoints`.
    pub unbound: Vec<Endpoint>,
    /// The number of its declared ports that are looked at.
    pub most_endpoints: usize,
    /// The details that were looked up for it.
    pub details: &'a Details,
}

/// A configuration, and the processes that loaded it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loaded {
    pub(super) by: BTreeSet<ProcessId>,
    pub(super) configuration: Arc<Configuration>,
}

/// The sockets on which one process listens for one port.
#[derive(Debug, Clone)]
pub struct PortSockets<'a> {
    /// The port.
    pub key: PortKey,
    /// Its network namespace.
    pub network: NamespaceId,
    /// The process.
    pub holder: ProcessId,
    /// The generation of the process.
    pub generation: Generation,
    /// The sockets: more than one with `shards`.
    pub sockets: Vec<&'a BoundSocket>,
}

impl PortSockets<'_> {
    /// The inodes of the sockets.
    #[must_use]
    pub fn inodes(&self) -> BTreeSet<u64> {
        self.sockets.iter().map(|socket| socket.inode).collect()
    }

    /// The key by which they are sorted.
    fn place(&self) -> (&PortKey, Generation, ProcessId) {
        (&self.key, self.generation, self.holder)
    }

    /// The port without its interface.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let PortKey { protocol, address, port, .. } = self.key;
        Endpoint { network: self.network, protocol, address, port }
    }
}

impl<'a> Case<'a> {
    /// The living processes of one generation, without those that have yet to detach.
    pub fn living(&self, generation: Generation) -> impl Iterator<Item = &Member<'a>> {
        let of = move |member: &&Member<'a>| {
            member.lives() && !member.launching && self.generations.get(member.id()) == generation
        };
        self.service.members.iter().filter(of)
    }

    /// The processes that serve: those of the current generation, without the master.
    pub fn serving(&self) -> impl Iterator<Item = &Member<'a>> {
        self.living(Generation::Current).filter(|member| member.role != Role::Master)
    }

    /// The process with this identity.
    #[must_use]
    pub fn member(&self, id: ProcessId) -> Option<&Member<'a>> {
        self.service.member(id)
    }

    /// The sockets on which its processes listen, by port, generation and process.
    #[must_use]
    pub fn port_sockets(&self) -> Vec<PortSockets<'a>> {
        let mut found: Vec<PortSockets<'a>> = Vec::new();
        for (id, listening) in self.listening() {
            let &Listening { network, socket } = listening;
            let key = PortKey {
                interface: socket.interface.as_deref().unwrap_or_default().into(),
                ..port_key(self.snapshot, &listening.endpoint())
            };
            let generation = self.generations.get(id);
            found.push(PortSockets { key, network, holder: id, generation, sockets: vec![socket] });
        }
        found.sort_by(|a, b| a.place().cmp(&b.place()));
        found.dedup_by(|next, first| {
            let same = next.place() == first.place();
            if same {
                first.sockets.append(&mut next.sockets);
            }
            same
        });
        found
    }

    /// Every listener of its processes, without those that have yet to detach.
    pub fn listening(&self) -> impl Iterator<Item = (ProcessId, &'a Listening<'a>)> {
        let detached = self.service.members.iter().filter(|member| !member.launching);
        let ids = detached.map(Member::id);
        ids.flat_map(move |id| self.listeners_of(id).map(move |listening| (id, listening)))
    }

    /// The listeners of one process.
    pub fn listeners_of(&self, id: ProcessId) -> impl Iterator<Item = &'a Listening<'a>> {
        self.holdings.get(&id).into_iter().flat_map(|holding| &holding.listeners)
    }

    /// The ports of `configuration` on which no current process listens.
    #[must_use]
    pub fn unbound_of(&self, configuration: &Configuration) -> Vec<Endpoint> {
        let current = |id: &ProcessId| self.generations.get(*id) == Generation::Current;
        let bound = self.listening().filter(|(id, _)| current(id));
        let mut bound: Vec<Endpoint> = bound.map(|(_, held)| held.endpoint()).collect();
        bound.sort_unstable();
        let declared = self.places.endpoints(&configuration.ports).take(self.most_endpoints);
        declared.filter(|endpoint| bound.binary_search(endpoint).is_err()).collect()
    }

    /// The network namespace of a process.
    #[must_use]
    pub fn network(&self, member: &Member<'_>) -> Option<&'a NetworkNamespace> {
        listeners::network_of(self.snapshot, member.process).map(|(_, network)| network)
    }

    /// Every listener of a generation is known, in all its network namespaces.
    #[must_use]
    pub fn listeners_known(&self, protocol: Protocol, generation: Generation) -> bool {
        let mut held = self.living(generation).filter_map(|m| self.holdings.get(&m.id()));
        self.attributed(protocol, generation) && held.all(|holding| !holding.elsewhere_unknown)
    }

    /// Every listener of a generation in one network namespace is known.
    #[must_use]
    pub fn listeners_known_in(
        &self,
        network: NamespaceId,
        protocol: Protocol,
        generation: Generation,
    ) -> bool {
        let table = self.snapshot.networks.get(&network);
        self.attributed(protocol, generation) && table.is_some_and(|table| table.bound.is_some())
    }

    /// For every listener in the tables it is known whether a process of this generation holds it; for
    /// UDP, also whether it is a listener.
    #[must_use]
    pub fn attributed(&self, protocol: Protocol, generation: Generation) -> bool {
        let known = |member: &Member<'_>| {
            let holding = self.holdings.get(&member.id());
            holding.is_some_and(|h| protocol == Protocol::Tcp || !h.udp_unknown)
        };
        self.living(Generation::Unknown).next().is_none()
            && self.living(generation).all(known)
            && !self.overlooked
    }

    /// The connections of a process; `None` if they are not all known.
    #[must_use]
    pub fn connections(&self, member: &Member<'_>) -> Option<ConnectionCounts> {
        let network = self.network(member)?;
        let mut counts = ConnectionCounts::default();
        let mut is_hidden = false;
        for connection in self.details.connections.get(&member.id())? {
            let slot = match connection {
                Connection::Tcp { state, .. } => match state {
                    ConnectionState::Established => &mut counts.established,
                    ConnectionState::CloseWait => &mut counts.close_wait,
                    ConnectionState::SynSent => &mut counts.syn_sent,
                    ConnectionState::Other => &mut counts.other,
                },
                Connection::Udp { local_port, .. } => {
                    // The kernel chooses the port of a resolver's socket; QUIC uses the listener's.
                    let chosen = Ephemeral::of(network).gives_away(*local_port) == Some(true);
                    if chosen && !self.udp_ports.contains(local_port) {
                        continue;
                    }
                    &mut counts.other
                }
                // A pair of unnamed sockets leads to the master.
                Connection::Unix { pair: Some(true), .. } => continue,
                Connection::Unix { pair: Some(false), .. } => &mut counts.unix,
                Connection::Unix { pair: None, .. } => return None,
                Connection::Hidden { .. } => {
                    is_hidden = true;
                    continue;
                }
            };
            *slot += 1;
        }
        // Having found none does not mean that there is none.
        (counts.total() > 0 || !is_hidden).then_some(counts)
    }

    /// Why a stale process is still there.
    #[must_use]
    pub fn state(&self, member: &Member<'_>) -> StaleState {
        if !member.lives() {
            return StaleState::Zombie;
        }
        // A master that was told to stop waits for its workers.
        let is_its = |other: &&Member<'_>| other.lives() && other.master == Some(member.id());
        if self.service.members.iter().any(|other| is_its(&other)) {
            return StaleState::Draining;
        }
        let Some(holding) = self.holdings.get(&member.id()) else { return StaleState::Unknown };
        match (holding.serves(), self.connections(member)) {
            (Some(true), _) => StaleState::Listening,
            (Some(false), Some(counts)) if counts.total() == 0 && !holding.udp_unknown => {
                StaleState::Idle
            }
            (Some(false), Some(counts)) if counts.total() > 0 => StaleState::Draining,
            _ => StaleState::Unknown,
        }
    }

    /// Its processes, for the verdict.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessView> {
        let view = |member: &Member<'_>| {
            let generation = self.generations.get(member.id());
            let stale = generation == Generation::Stale;
            ProcessView {
                id: member.id(),
                role: member.role,
                generation,
                state: stale.then(|| self.state(member)),
                started: member.process.started,
                superseded: self.generations.superseded.get(&member.id()).copied(),
                connections: if member.lives() {
                    stale.then(|| self.connections(member)).flatten()
                } else {
                    Some(ConnectionCounts::default())
                },
                anonymous_memory_bytes: member.process.anonymous_memory_bytes,
                open_fds: member.process.open_fds,
                max_fds: member.process.max_fds,
                ending: None,
            }
        };
        self.service.members.iter().map(view).collect()
    }
}

/// The labels of a port that is bound to no interface.
#[must_use]
pub fn port_key(snapshot: &Snapshot, endpoint: &Endpoint) -> PortKey {
    let Endpoint { network, protocol, address, port } = *endpoint;
    let label = snapshot.networks.get(&network).map(|network| network.label.as_str().into());
    let netns = label.unwrap_or_else(|| network.0.to_string().as_str().into());
    PortKey { protocol, address, port, interface: Name::default(), netns }
}

/// Groups sockets by port and generation; they must be in the order of [`Case::port_sockets`].
pub fn by_port<'p, 'a>(
    sockets: &'p [PortSockets<'a>],
) -> impl Iterator<Item = (&'p PortSockets<'a>, &'p [PortSockets<'a>])> {
    let groups = sockets.chunk_by(|a, b| a.generation == b.generation && a.key == b.key);
    groups.filter_map(|group| Some((group.first()?, group)))
}

/// The ports of the verdict, by generation. `drops` are the total drops by port.
#[must_use]
pub fn ports(sockets: &[PortSockets<'_>], drops: &BTreeMap<PortKey, u64>) -> Vec<Port> {
    let mut drops = drops.iter().peekable();
    let groups = by_port(sockets).map(|(first, group)| {
        // Both are sorted by port.
        while drops.next_if(|(key, _)| **key < first.key).is_some() {}
        let drops = drops.peek().filter(|(key, _)| **key == first.key);
        port(first, group, drops.map(|(_, drops)| **drops))
    });
    groups.collect()
}

fn port(first: &PortSockets<'_>, group: &[PortSockets<'_>], drops: Option<u64>) -> Port {
    let sockets = || group.iter().flat_map(|held| &held.sockets);
    let mut pids: Vec<i32> = group.iter().map(|held| held.holder.pid).collect();
    pids.sort_unstable();
    let mut inodes: Vec<u64> = sockets().map(|socket| socket.inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    let fullest = sockets().max_by_key(|socket| socket.queue_length);
    Port {
        key: first.key.clone(),
        generation: first.generation,
        pids,
        inodes,
        queue_length: fullest.and_then(|socket| socket.queue_length),
        queue_limit: fullest.and_then(|socket| socket.queue_limit),
        drops,
    }
}
