//! What a sample means, as plain values: the input of metrics, reports and the page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use super::subject::{Name, PortKey, Subject, Target};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::Role;
use crate::haproxy::lineage::proof::Superseded;
use crate::model::named::named;
use crate::model::{
    CollectorRun, Configuration, Headroom, ProcessId, Protocol, SocketInode, UnixSeconds,
    Unreadable,
};
use crate::policy::kind::{Kind, Severity};
use crate::policy::{Ignore, Rules, Thresholds};

/// A finding that has been held against the grace of its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// The kind.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// What its advice acts on.
    pub target: Target,
    /// Since when it has been wrong: a proved time, or that of the first sample that showed it.
    pub since: UnixSeconds,
    /// It has not lasted for its grace and in two samples running yet; else it is firing.
    pub pending: bool,
    /// The facts that were seen, one in each line.
    pub evidence: Vec<String>,
    /// The first thing to do.
    pub advice: String,
}

/// The anomalies of a service that one action fixes: those that have the same target. A person reads
/// causes, because a stale process that listens on 300 ports is one thing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// A hash of the service, the kind and the target. It stays the same when the exporter is restarted.
    pub id: String,
    /// The first of its kinds, by [`Kind::precedence`].
    pub kind: Kind,
    /// The kinds of its anomalies, by precedence.
    pub kinds: Vec<Kind>,
    /// The worst severity of its kinds.
    pub severity: Severity,
    /// All of its anomalies are pending.
    pub pending: bool,
    /// Since when the first of its anomalies has been wrong.
    pub since: UnixSeconds,
    /// What it acts on, in words, such as `stale process 42`; empty for the service itself.
    pub subject: String,
    /// The ports of its anomalies, ascending.
    pub ports: Vec<PortKey>,
    /// The places of its anomalies in [`ServiceVerdict::anomalies`], ascending.
    pub anomalies: Vec<usize>,
    /// The facts of the anomalies of its first kind. A fact that is true of some ports only says so.
    pub evidence: Vec<String>,
    /// The first thing to do.
    pub advice: String,
}

named! {
    /// Why a stale process is still there.
    pub enum StaleState {
        /// It still holds a listening socket.
        Listening = "listening",
        /// It has no listener, but connections.
        Draining = "draining",
        /// It has neither, and has not exited.
        Idle = "idle",
        /// It is dead, and its parent has not reaped it.
        Zombie = "zombie",
        /// Its sockets could not all be read.
        Unknown = "unknown",
    }
}

/// The number of a process's connections by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// TCP ESTABLISHED.
    pub established: u64,
    /// TCP CLOSE_WAIT.
    pub close_wait: u64,
    /// TCP SYN_SENT.
    pub syn_sent: u64,
    /// Unix streams other than the master's.
    pub unix: u64,
    /// TCP in any other state, and QUIC.
    pub other: u64,
}

impl ConnectionCounts {
    /// Each state's name (label `state`) and number.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("established", self.established),
            ("close_wait", self.close_wait),
            ("syn_sent", self.syn_sent),
            ("unix", self.unix),
            ("other", self.other),
        ]
    }

    /// The number of all connections.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// Adds the connections of another process.
    pub fn add(&mut self, other: &ConnectionCounts) {
        self.established += other.established;
        self.close_wait += other.close_wait;
        self.syn_sent += other.syn_sent;
        self.unix += other.unix;
        self.other += other.other;
    }
}

/// What speaks against ending a stale process, or for waiting. Only `reap` asks for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ending {
    /// Its sockets that are in no table which could be read.
    pub hidden_sockets: BTreeSet<SocketInode>,
    /// Its listeners that no serving process has, although the configuration which the serving processes
    /// loaded declares them: then something about this judgement is wrong.
    pub needed: Vec<PortKey>,
    /// The process that superseded it has its configuration path, its pidfile or one of its addresses. If
    /// that process has ended, the same is asked of the ones that serve.
    pub has_common_ground: bool,
    /// HAProxy's own `grace`, which it has loaded; 0 if it has none, or that is not known.
    pub own_grace_seconds: f64,
    /// The `hard-stop-after` that it has loaded, if that is known.
    pub hard_stop_after_seconds: Option<f64>,
    /// The `mworker-max-reloads` that its master has loaded, if that is known.
    pub max_reloads: Option<u32>,
}

/// A process of a service, as the verdict shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessView {
    /// Its pid and start time.
    pub id: ProcessId,
    /// Its role.
    pub role: Role,
    /// Its generation.
    pub generation: Generation,
    /// Why it is still there; `None` unless it is stale.
    pub state: Option<StaleState>,
    /// When it was started.
    pub started: UnixSeconds,
    /// How it was superseded; `None` unless it is stale.
    pub superseded: Option<Superseded>,
    /// Its connections; `None` unless it is stale and they could be read.
    pub connections: Option<ConnectionCounts>,
    /// Its resident anonymous memory (`RssAnon`).
    pub anonymous_memory_bytes: Option<u64>,
    /// The number of its open descriptors.
    pub open_fds: Option<u64>,
    /// The limit on its open descriptors (`RLIMIT_NOFILE`).
    pub max_fds: Option<u64>,
    /// What bears on ending it; `None` unless it is stale and alive.
    pub ending: Option<Ending>,
}

/// A port on which one generation of a service listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// The port.
    pub key: PortKey,
    /// The generation.
    pub generation: Generation,
    /// The processes that hold its sockets, ascending.
    pub pids: Vec<i32>,
    /// The inodes of its sockets, ascending.
    pub inodes: Vec<u64>,
    /// The length of its fullest accept queue (TCP).
    pub queue_length: Option<u32>,
    /// The limit of that queue.
    pub queue_limit: Option<u32>,
    /// The connections that were dropped at full accept queues, of all generations (TCP).
    pub drops: Option<u64>,
}

named! {
    /// How a service came to be watched.
    pub enum Origin {
        /// An entry of the exporter's configuration matches it.
        Configured = "configured",
        /// It was found on the host, and no entry matches it.
        Discovered = "discovered",
    }
}

/// The reloads of one service since the exporter was started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reloads {
    /// The number of new generations that took over.
    pub successes: u64,
    /// The number of a master's reloads that no worker came of.
    pub failures: u64,
    /// Failures can be counted, because there is a master whose environment can be read.
    pub failures_known: bool,
    /// Whether the last one succeeded; `None` if there was none, or that cannot be known.
    pub last_successful: Option<bool>,
    /// When the last one was.
    pub last_timestamp: Option<UnixSeconds>,
}

/// The verdict on one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceVerdict {
    /// Its name (label `haproxy`).
    pub name: String,
    /// How it came to be watched.
    pub origin: Origin,
    /// Its pidfile, configuration and other attributes that identify it.
    pub identity: Identity,
    /// Whether a current process serves; `None` if that could not be seen.
    pub up: Option<bool>,
    /// Its processes, oldest first.
    pub processes: Vec<ProcessView>,
    /// The number of generations that are alive; `None` if that could not be seen.
    pub generations: Option<u64>,
    /// When the serving generation was started.
    pub generation_start: Option<UnixSeconds>,
    /// Its configuration on disk, if it could be read.
    pub configuration: Option<Arc<Configuration>>,
    /// Its listeners by port and generation.
    pub ports: Vec<Port>,
    /// The protocols of which every listener is known.
    pub protocols_known: BTreeSet<Protocol>,
    /// Its anomalies, pending ones included, by kind and subject.
    pub anomalies: Vec<Anomaly>,
    /// Their causes, the worst first. Every anomaly belongs to exactly one.
    pub causes: Vec<Cause>,
    /// The kinds that could be judged: for any other, no anomaly does not mean that all is well.
    pub judged: BTreeSet<Kind>,
    /// How many anomalies have begun since the exporter was started, by kind.
    pub observed: BTreeMap<Kind, u64>,
    /// Its reloads.
    pub reloads: Reloads,
    /// The sign that a reload is under way; `None` if there is none.
    pub reloading: Option<&'static str>,
    /// The memory and pids that are left to it.
    pub headroom: Headroom,
    /// Its thresholds for the alerts.
    pub thresholds: Thresholds,
    /// The number of ports that it may listen on, by protocol.
    pub allowed_ports: BTreeMap<Protocol, u64>,
}

impl ServiceVerdict {
    /// A service that has no process: it has every series that a service always has, at zero. Whether
    /// its ports are blocked is not known without its configuration.
    #[must_use]
    pub fn absent(name: &str, rules: &Rules) -> ServiceVerdict {
        ServiceVerdict {
            name: name.to_owned(),
            origin: Origin::Configured,
            identity: Identity::default(),
            up: Some(false),
            processes: Vec::new(),
            generations: Some(0),
            generation_start: None,
            configuration: None,
            ports: Vec::new(),
            protocols_known: Protocol::ALL.into_iter().collect(),
            anomalies: Vec::new(),
            causes: Vec::new(),
            judged: Kind::ALL.into_iter().filter(|kind| *kind != Kind::PortBlocked).collect(),
            observed: BTreeMap::new(),
            reloads: Reloads::default(),
            reloading: None,
            headroom: Headroom::default(),
            thresholds: rules.thresholds,
            allowed_ports: Protocol::ALL.map(|p| (p, rules.allowed_count(p))).into(),
        }
    }

    /// A service of which it is not known whether it has a process.
    #[must_use]
    pub fn unknown(name: &str, rules: &Rules) -> ServiceVerdict {
        let mut unknown = ServiceVerdict::absent(name, rules);
        unknown.withhold();
        ServiceVerdict { generations: None, ..unknown }
    }

    /// Withholds whether it is up, and every conclusion from its being down.
    pub fn withhold(&mut self) {
        self.up = None;
        self.protocols_known.clear();
        self.judged.clear();
    }

    /// Its anomalies that are not pending.
    pub fn firing(&self) -> impl Iterator<Item = &Anomaly> {
        self.anomalies.iter().filter(|anomaly| !anomaly.pending)
    }

    /// It has no process left, and keeps its series until it is forgotten.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.processes.is_empty()
    }
}

/// The verdict on one sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// When the sample was taken.
    pub taken: UnixSeconds,
    /// The services, in the order of their names.
    pub services: Vec<ServiceVerdict>,
    /// Everything that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// The entries of `ignore` in the exporter's configuration that have expired.
    pub expired_ignores: Vec<Ignore>,
    /// The runs of the collectors.
    pub collectors: Vec<CollectorRun>,
}
