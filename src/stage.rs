//! For unit tests: stages hosts whose processes are actors, and judges the samples of them.
//!
//! One file, because a test that stages a host needs all of it: the actors, the sample that they make
//! and the film that judges it. `benches/fleet` includes it, too, so it uses only what the library
//! exports; what tests read from a verdict is in `readings.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::haproxy::config::{self, Launch, SourceFile};
use crate::haproxy::digest::digest;
use crate::haproxy::listeners;

use crate::judge::verdict::Verdict;
use crate::judge::{Cases, Memory};
use crate::model::port_index::PortIndex;
use crate::model::{
    BoundSocket, Configuration, Connection, ConnectionState, Details, Environment, Executable,
    Gaps, NamespaceId, NetworkNamespace, OtherNetworks, Pidfile, PidfileContent, PortRole, PortUse,
    Process, ProcessId, Program, Protocol, Signals, Snapshot, UserIds,
};
use crate::policy::Policy;

pub const HERE: NamespaceId = NamespaceId(1);
/// Another network namespace, called blue; its ephemeral range is another than that of [`HERE`].
const BLUE: NamespaceId = NamespaceId(2);

/// One process of a staged host.
#[derive(Debug, Clone)]
pub struct Actor {
    pub process: Process,
    pub bound: Vec<BoundSocket>,
    bound_in_blue: Vec<BoundSocket>,
    blue_is_shut: bool,
    unix: Vec<u64>,
    connections: Vec<Connection>,
}

/// A daemon with this pid, start (in seconds) and command line.
pub fn actor(pid: i32, started: u32, line: &str) -> Actor {
    Actor {
        process: Process {
            id: ProcessId { start_ticks: u64::from(started) * 100, pid },
            started: f64::from(started),
            parent: 1,
            session: pid,
            comm: "haproxy".to_owned(),
            run_state: 'S',
            is_ending: false,
            arguments: Some(line.split_ascii_whitespace().map(str::to_owned).collect()),
            executable: Some(Executable { path: "/usr/sbin/haproxy".into(), deleted: false }),
            working_directory: Some("/".into()),
            root: Some("/".into()),
            environment: Some(Environment::default()),
            cgroup: Some("/".to_owned()),
            users: Some(UserIds::all(0)),
            pid_namespace: Some(HERE),
            net_namespace: Some(HERE),
            other_networks: OtherNetworks {
                held: Some(BTreeSet::new()),
                ..OtherNetworks::default()
            },
            mount_namespace: Some(HERE),
            namespace_pids: vec![pid],
            signals: Some(Signals { caught: Signals::SIGUSR1, ..Signals::default() }),
            tracer: 0,
            anonymous_memory_bytes: Some(1 << 20),
            open_fds: Some(10),
            max_fds: Some(1000),
            sockets: Some(Arc::default()),
            pidfile: None,
            configuration: None,
        },
        bound: Vec::new(),
        bound_in_blue: Vec::new(),
        blue_is_shut: false,
        unix: Vec::new(),
        connections: Vec::new(),
    }
}

impl Actor {
    fn listens(mut self, protocol: Protocol, port: u16, inode: u64) -> Actor {
        self.bound.push(listener(protocol, port, inode));
        self.holds(inode)
    }

    pub fn tcp(self, port: u16, inode: u64) -> Actor {
        self.listens(Protocol::Tcp, port, inode)
    }

    /// Listens as with `bind … namespace blue`.
    pub fn tcp_in_blue(mut self, port: u16, inode: u64) -> Actor {
        self.bound_in_blue.push(listener(Protocol::Tcp, port, inode));
        self.holds(inode).names("blue", Some(BLUE))
    }

    /// Its configuration names a namespace, which is that one or does not exist.
    pub fn names(mut self, name: &str, network: Option<NamespaceId>) -> Actor {
        self.process.other_networks.named.insert(name.to_owned(), network);
        self
    }

    /// Its configuration names blue, which the exporter may not enter.
    pub fn shut_out_of_blue(mut self) -> Actor {
        self.blue_is_shut = true;
        self.names("blue", Some(BLUE))
    }

    pub fn udp(self, port: u16, inode: u64) -> Actor {
        self.listens(Protocol::Udp, port, inode)
    }

    pub fn unix(mut self, inode: u64) -> Actor {
        self.unix.push(inode);
        self.holds(inode)
    }

    /// Holds a descriptor that is in no table, such as a paused listener.
    pub fn holds(mut self, inode: u64) -> Actor {
        Arc::make_mut(self.process.sockets.get_or_insert_default()).insert(inode);
        self
    }

    pub fn connected(self, inode: u64, state: ConnectionState) -> Actor {
        self.connection(Connection::Tcp { inode, state })
    }

    pub fn connection(mut self, connection: Connection) -> Actor {
        let inode = connection.inode();
        self.connections.push(connection);
        self.holds(inode)
    }

    pub fn child_of(mut self, parent: i32) -> Actor {
        (self.process.parent, self.process.session) = (parent, parent);
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Actor {
        let variables = self.process.environment.get_or_insert_default();
        Arc::make_mut(&mut variables.0).insert(name.to_owned(), value.to_owned());
        self
    }

    /// Has this reload number of its master in its environment.
    pub fn reload(self, number: u32) -> Actor {
        let list = format!("|type=m;fd=-1;pid=1;reloads={number};failedreloads=0|type=w;pid=2");
        self.variable("HAPROXY_PROCESSES", &list).variable("HAPROXY_MWORKER_WAIT_ONLY", "1")
    }

    pub fn pidfile(mut self, pids: &[i32]) -> Actor {
        let content = PidfileContent::Pids(pids.to_vec());
        let started = self.process.started;
        self.process.pidfile = Some(Pidfile {
            content,
            modified: Some(started),
            writer: Some(0),
            ..Pidfile::unread("/run/p".into())
        });
        self
    }

    /// Holds no socket yet.
    pub fn is_idle(&self) -> bool {
        self.process.sockets.as_ref().is_none_or(|held| held.is_empty())
    }

    /// Is run by this user.
    pub fn of_user(self, uid: u32) -> Actor {
        self.change(|process| process.users = Some(UserIds::all(uid)))
    }

    /// Has this configuration on disk, modified at that second.
    pub fn configured(mut self, text: &str, modified: u32) -> Actor {
        let file = SourceFile { path: "/a.cfg".into(), text: text.into() };
        let files = [file];
        let declared = config::read(&files, &Launch::default());
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.process.configuration = Some(Arc::new(Configuration {
            complete: declared.errors.is_empty(),
            unread: None,
            ports: PortIndex::of(&declared),
            declared,
            fingerprint: hasher.finish(),
            digest: Some(digest(&files)),
            modified: f64::from(modified),
            changed: f64::from(modified),
        }));
        self
    }

    pub fn in_directory(mut self, directory: &str) -> Actor {
        self.process.working_directory = Some(directory.into());
        self
    }

    pub fn in_cgroup(mut self, cgroup: &str) -> Actor {
        self.process.cgroup = Some(cgroup.to_owned());
        self
    }

    pub fn jailed(mut self) -> Actor {
        self.process.root = Some("/var/empty".into());
        self.process.working_directory = Some("/var/empty".into());
        self
    }

    pub fn dead(mut self) -> Actor {
        self.process.run_state = 'Z';
        self.process.arguments = None;
        self.process.executable = None;
        self.process.environment = None;
        self.process.sockets = None;
        self
    }

    /// Is seen as by an exporter without rights.
    pub fn unseen(mut self) -> Actor {
        let process = &mut self.process;
        process.executable = None;
        process.environment = None;
        process.sockets = None;
        process.working_directory = None;
        process.root = None;
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut Process)) -> Actor {
        change(&mut self.process);
        self
    }
}

fn listener(protocol: Protocol, port: u16, inode: u64) -> BoundSocket {
    BoundSocket {
        protocol,
        address: "0.0.0.0".parse().unwrap(),
        port,
        interface: None,
        inode,
        cookie: Some(inode),
        uid: 0,
        receive_buffer_bytes: Some(212_992),
        queue_length: Some(0),
        queue_limit: Some(128),
        drops: Some(0),
    }
}

/// A socket that uses a port, as the details of a sample show it.
pub fn used(protocol: Protocol, role: PortRole, local: &str, inode: u64, uid: u32) -> PortUse {
    let local: SocketAddr = local.parse().unwrap();
    let connected = matches!(role, PortRole::Connected(_));
    PortUse {
        protocol,
        role,
        address: local.ip(),
        port: local.port(),
        remote: connected.then(|| ("10.0.0.9".parse().unwrap(), 443)),
        v6only: None,
        interface: None,
        inode: Some(inode),
        uid,
        receive_buffer_bytes: Some(212_992),
    }
}

/// A TCP socket that uses a port.
pub fn tcp_use(role: PortRole, local: &str, inode: u64, uid: u32) -> PortUse {
    used(Protocol::Tcp, role, local, inode, uid)
}

fn blue(actors: &[Actor]) -> Option<(NamespaceId, NetworkNamespace)> {
    let used = actors.iter().any(|actor| actor.process.networks().contains(&BLUE));
    let shut = actors.iter().any(|actor| actor.blue_is_shut);
    let bound = actors.iter().flat_map(|actor| actor.bound_in_blue.clone());
    let network = NetworkNamespace {
        label: "blue".to_owned(),
        bound: Some(bound.collect()),
        unix_listeners: Some(BTreeSet::new()),
        ephemeral: Some(10000..=20000),
        reserved: vec![],
    };
    (used && !shut).then_some((BLUE, network))
}

/// A sample of these actors.
pub fn snapshot(taken: f64, actors: &[Actor]) -> Snapshot {
    let mut processes: Vec<Process> = actors.iter().map(|a| a.process.clone()).collect();
    processes.sort_by_key(|process| process.id);
    let bound: BTreeMap<u64, BoundSocket> =
        actors.iter().flat_map(|a| a.bound.iter().map(|s| (s.inode, s.clone()))).collect();
    let network = NetworkNamespace {
        label: String::new(),
        bound: Some(bound.into_values().collect()),
        unix_listeners: Some(actors.iter().flat_map(|a| a.unix.clone()).collect()),
        ephemeral: Some(32768..=60999),
        reserved: vec![],
    };
    let networks: BTreeMap<_, _> = [(HERE, network)].into_iter().chain(blue(actors)).collect();
    let mut gaps = Gaps::default();
    gaps.note_processes(processes.iter());
    gaps.note_tables(&networks);
    Snapshot {
        taken,
        gaps,
        processes,
        parents: BTreeMap::from([(1, "init".to_owned())]),
        networks,
        own_network: Some(HERE),
        ..Snapshot::default()
    }
}

/// The connections of every actor whose sockets can be read.
fn connections(actors: &[Actor]) -> Details {
    let seen = actors.iter().filter(|actor| actor.process.sockets.is_some());
    let connections = seen.map(|actor| (actor.process.id, actor.connections.clone())).collect();
    Details { connections, ..Details::default() }
}

/// Judges one sample after another, beginning with the first of an exporter.
#[derive(Default)]
pub struct Film {
    pub policy: Policy,
    /// Sockets that use ports in the network namespace blue.
    pub uses_in_blue: Vec<PortUse>,
    /// `net.ipv6.bindv6only` of every network namespace.
    pub v6only: bool,
    /// By how many seconds the wall clock was set.
    pub clock_set: f64,
    memory: Memory,
    /// The processes that held each socket when it was last held.
    last_holders: BTreeMap<u64, BTreeSet<ProcessId>>,
}

impl Film {
    pub fn with(policy: Policy) -> Film {
        Film { policy, ..Film::default() }
    }

    pub fn see(&mut self, taken: f64, actors: &[Actor]) -> Verdict {
        self.see_uses(taken, actors, &[])
    }

    /// Beside the actors, these sockets use ports. Those that no actor holds belong to `dnsmasq`.
    pub fn see_uses(&mut self, taken: f64, actors: &[Actor], uses: &[PortUse]) -> Verdict {
        self.judge(&self.sample(taken, actors), connections(actors), uses)
    }

    /// The sample that these actors make, by a wall clock that was set by `clock_set`.
    fn sample(&self, taken: f64, actors: &[Actor]) -> Snapshot {
        let mut sample = snapshot(taken, actors);
        sample.taken += self.clock_set;
        sample.booted += self.clock_set;
        for process in &mut sample.processes {
            process.started += self.clock_set;
        }
        sample
    }

    /// Sees a sample that a reload has torn.
    pub fn see_torn(&mut self, taken: f64, actors: &[Actor]) -> Verdict {
        let mut sample = snapshot(taken, actors);
        sample.gaps.torn = true;
        self.judge(&sample, connections(actors), &[])
    }

    /// Sees a sample during which processes of these users came or went.
    pub fn see_torn_by(&mut self, taken: f64, actors: &[Actor], users: &[u32]) -> Verdict {
        let mut sample = snapshot(taken, actors);
        sample.gaps.torn_by.extend(users);
        self.judge(&sample, connections(actors), &[])
    }

    /// Sees a sample in which the holders of these listeners have not been searched for.
    pub fn see_lost(&mut self, taken: f64, actors: &[Actor], lost: &[u64]) -> Verdict {
        self.see_lost_of(taken, actors, lost, &[])
    }

    /// The same, where the users of the processes that held them last are known.
    pub fn see_lost_of(
        &mut self,
        taken: f64,
        actors: &[Actor],
        lost: &[u64],
        users: &[(ProcessId, u32)],
    ) -> Verdict {
        let mut sample = snapshot(taken, actors);
        sample.gaps.last_users.extend(users.iter().copied());
        sample.gaps.unsearched.extend(lost);
        let holders = lost.iter().map(|inode| (*inode, self.last_holders[inode].clone()));
        sample.gaps.lost = holders.collect();
        self.judge(&sample, connections(actors), &[])
    }

    fn judge(&mut self, snapshot: &Snapshot, mut details: Details, uses: &[PortUse]) -> Verdict {
        let held: BTreeSet<u64> = snapshot
            .processes
            .iter()
            .flat_map(|p| p.sockets.iter().flat_map(|held| held.iter()))
            .copied()
            .collect();
        let both = uses.iter().chain(&self.uses_in_blue);
        for inode in both.filter_map(|used| used.inode).filter(|i| !held.contains(i)) {
            let program = Program { pid: 77, name: "dnsmasq".to_owned() };
            details.programs.insert(inode, program);
        }
        self.memory.follow_clock(snapshot.booted);
        let holdings = listeners::holdings(snapshot);
        let cases = Cases::open(snapshot, &holdings, &self.memory, &self.policy);
        for network in cases.follow_ups().unbound.into_keys() {
            let there = if network == BLUE { self.uses_in_blue.as_slice() } else { uses };
            if snapshot.networks.contains_key(&network) {
                details.port_uses.insert(network, there.to_vec());
                if self.v6only {
                    details.v6only.insert(network);
                }
            }
        }
        let (verdict, memory) = cases.judge(&details);
        self.memory = memory;
        self.last_holders.retain(|inode, _| !held.contains(inode));
        for process in &snapshot.processes {
            for &inode in process.sockets.iter().flat_map(|held| held.iter()) {
                self.last_holders.entry(inode).or_default().insert(process.id);
            }
        }
        verdict
    }

    /// Sees the same actors until every grace is over.
    pub fn settle(&mut self, taken: f64, actors: &[Actor]) -> Verdict {
        self.see(taken, actors);
        self.see(taken + 15.0, actors);
        self.see(taken + 30.0, actors)
    }
}
