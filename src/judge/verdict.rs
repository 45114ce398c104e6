//! What a sample means, as plain values: the input of metrics, reports and the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::Role;
use crate::haproxy::lineage::proof::Superseded;
use crate::model::named::named;
use crate::model::{
    CollectorRun, Configuration, Headroom, ProcessId, Protocol, UnixSeconds, Unreadable,
};
use crate::policy::kind::Kind;
use crate::policy::{Rules, Thresholds};

/// A port as the metrics name it. Interface and netns are empty unless bound to one or foreign.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// Transport.
    pub protocol: Protocol,
    /// Address.
    pub address: IpAddr,
    /// Number.
    pub port: u16,
    /// Interface.
    pub interface: Name,
    /// Network namespace.
    pub netns: Name,
}

/// The text of a label that is empty for most ports, and then costs nothing to compare or copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Option<Arc<str>>);

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name((!text.is_empty()).then(|| text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// What a kind is said of, and who stands behind it: the labels of an anomaly.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The port, where it is about one.
    pub port: Option<PortKey>,
    /// Who causes it: stable while the cause is, never a pid.
    pub holder: String,
}

impl Subject {
    /// Its address and port, where it has one.
    #[must_use]
    pub fn place(&self) -> Option<(IpAddr, u16)> {
        self.port.as_ref().map(|key| (key.address, key.port))
    }
}

/// A fact judged wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// Its kind.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// Since when: proved, or first seen.
    pub since: UnixSeconds,
    /// It has not held for its grace, or not in two samples running.
    pub pending: bool,
    /// What was seen, one fact each.
    pub evidence: Vec<String>,
    /// What to do first.
    pub advice: String,
}

named! {
    /// Why a stale process lives.
    pub enum StaleState {
        /// It holds a listening socket.
        Listening = "listening",
        /// It has connections, and no listener.
        Draining = "draining",
        /// Neither.
        Idle = "idle",
        /// Dead and not reaped.
        Zombie = "zombie",
        /// It could not be read.
        Unknown = "unknown",
    }
}

/// Connections of a process by state.
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
    /// TCP in other states, and QUIC.
    pub other: u64,
}

impl ConnectionCounts {
    /// Name (label `state`) and number of each.
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

    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// Adds another process's.
    pub fn add(&mut self, other: &ConnectionCounts) {
        self.established += other.established;
        self.close_wait += other.close_wait;
        self.syn_sent += other.syn_sent;
        self.unix += other.unix;
        self.other += other.other;
    }
}

/// A process of a haproxy.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessView {
    /// Identity.
    pub id: ProcessId,
    /// Role.
    pub role: Role,
    /// Generation.
    pub generation: Generation,
    /// Of a stale one.
    pub state: Option<StaleState>,
    /// Start.
    pub started: UnixSeconds,
    /// How a stale one was superseded.
    pub superseded: Option<Superseded>,
    /// Of a stale one, where they could be read.
    pub connections: Option<ConnectionCounts>,
    /// Anonymous resident memory.
    pub anonymous_memory_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Limit on them.
    pub max_fds: Option<u64>,
}

/// A port some generation of a haproxy listens on.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Which.
    pub key: PortKey,
    /// Whose.
    pub generation: Generation,
    /// Who holds it, ascending.
    pub pids: Vec<i32>,
    /// Its sockets, ascending.
    pub inodes: Vec<u64>,
    /// Fill of the fullest socket's accept queue (TCP).
    pub queue_length: Option<u32>,
    /// That queue's limit.
    pub queue_limit: Option<u32>,
    /// Connections dropped at full accept queues of any generation (TCP).
    pub drops: Option<u64>,
}

named! {
    /// How a haproxy came to be watched.
    pub enum Origin {
        /// It has a name in the configuration.
        Configured = "configured",
        /// It was found on the host.
        Discovered = "discovered",
    }
}

/// The reloads of one haproxy, as far as they were seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reloads {
    /// New generations that took over.
    pub successes: u64,
    /// Reload numbers of a master that no worker ever matched.
    pub failures: u64,
    /// Failures can be known: it has a master whose environment can be read.
    pub failures_known: bool,
    /// The last one landed; `None` where that cannot be known, or there was none.
    pub last_successful: Option<bool>,
    /// When it was.
    pub last_timestamp: Option<UnixSeconds>,
}

/// One haproxy, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceVerdict {
    /// Its name.
    pub name: String,
    /// How it came to be watched.
    pub origin: Origin,
    /// What else is known of it.
    pub identity: Identity,
    /// A current process serves. `None`: could not be seen.
    pub up: Option<bool>,
    /// Its processes, oldest first.
    pub processes: Vec<ProcessView>,
    /// Generations alive; `None`: could not be seen.
    pub generations: Option<u64>,
    /// Start of the serving generation.
    pub generation_start: Option<UnixSeconds>,
    /// Its configuration as it is on disk, where it could be read.
    pub configuration: Option<Arc<Configuration>>,
    /// Its listeners by port and generation.
    pub ports: Vec<Port>,
    /// Protocols whose listeners are known in full.
    pub protocols_known: BTreeSet<Protocol>,
    /// What is wrong, pending included, in a stable order.
    pub anomalies: Vec<Anomaly>,
    /// Kinds that could be judged.
    pub judged: BTreeSet<Kind>,
    /// Anomalies that began since the exporter was started.
    pub observed: BTreeMap<Kind, u64>,
    /// Its reloads.
    pub reloads: Reloads,
    /// What is left to it.
    pub headroom: Headroom,
    /// Its thresholds.
    pub thresholds: Thresholds,
    /// Permitted port numbers by protocol.
    pub allowed_ports: BTreeMap<Protocol, u64>,
}

impl ServiceVerdict {
    /// A haproxy of which nothing lives: every series it always has, at zero. Whether its ports are
    /// blocked is not known without its configuration.
    #[must_use]
    pub fn unseen(name: &str, rules: &Rules) -> ServiceVerdict {
        let both = [Protocol::Tcp, Protocol::Udp];
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
            protocols_known: both.into_iter().collect(),
            anomalies: Vec::new(),
            judged: Kind::ALL.into_iter().filter(|kind| *kind != Kind::PortBlocked).collect(),
            observed: BTreeMap::new(),
            reloads: Reloads::default(),
            headroom: Headroom::default(),
            thresholds: rules.thresholds,
            allowed_ports: both.into_iter().map(|p| (p, rules.allowed_count(p))).collect(),
        }
    }

    /// A haproxy of which nobody can say whether it lives.
    #[must_use]
    pub fn unknown(name: &str, rules: &Rules) -> ServiceVerdict {
        ServiceVerdict {
            up: None,
            generations: None,
            protocols_known: BTreeSet::new(),
            judged: BTreeSet::new(),
            ..ServiceVerdict::unseen(name, rules)
        }
    }

    /// Nobody can say whether it serves, nor what would follow from that it does not.
    pub fn withhold(&mut self) {
        self.up = None;
        self.protocols_known.clear();
        self.judged.clear();
    }

    /// Nothing of it lives any more; it keeps its series for a while.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.processes.is_empty()
    }
}

/// What a sample means.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// When the sample was taken.
    pub taken: UnixSeconds,
    /// The haproxys, by name.
    pub services: Vec<ServiceVerdict>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// How the collectors fared.
    pub collectors: Vec<CollectorRun>,
}
