//! What one look at the host shows of the processes that may have to be ended, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::haproxy::command_line::CommandLine;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::haproxy::lineage::proof::Superseded;
use crate::judge::verdict::{
    ConnectionCounts, Ending, PortKey, ProcessView, ServiceVerdict, StaleState, Verdict,
};
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Process, ProcessId, Protocol, Signals, Snapshot, Traffic, UnixSeconds};

/// Seconds since the host booted, suspends included (`CLOCK_BOOTTIME`): no one can set this clock.
pub type BootSeconds = f64;

/// What one look shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sight {
    /// When it was taken.
    pub taken: UnixSeconds,
    /// The same on the clock that no one can set.
    pub booted: BootSeconds,
    /// The reason why nothing may be concluded from it; `None` if there is none.
    pub blurred: Option<String>,
    /// The services by name.
    pub services: BTreeMap<String, ServiceSight>,
}

/// What it shows of one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceSight {
    /// Whether a current process serves.
    pub up: Option<bool>,
    /// The sign that a reload is under way.
    pub reloading: Option<&'static str>,
    /// When the last reload failed, if the last one did.
    pub reload_failed: Option<UnixSeconds>,
    /// Every listener of every process of the service is known.
    pub is_complete: bool,
    /// The processes that serve, and their masters.
    pub serving: Vec<Serving>,
    /// The ports on which the serving processes listen.
    pub ports: BTreeSet<PortKey>,
    /// The ports among them at which clients wait to be accepted.
    pub waiting: BTreeSet<PortKey>,
    /// The serving processes came by a reload: they are a master's workers or were started with `-sf` or
    /// `-st`.
    pub came_by_reload: bool,
    /// The living stale processes.
    pub stale: BTreeMap<ProcessId, Stale>,
    /// The zombies, each with the pid of its parent.
    pub zombies: Vec<(i32, i32)>,
    /// The other living processes, by pid.
    pub others: BTreeMap<i32, Generation>,
}

/// A process that serves, or the master of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// Its identity.
    pub id: ProcessId,
    /// The letter of its state, such as S or T.
    pub run_state: char,
    /// The path of its program.
    pub executable: Option<PathBuf>,
}

/// A living stale process.
#[derive(Debug, Clone, PartialEq)]
pub struct Stale {
    /// Its role.
    pub role: Role,
    /// Why it lives.
    pub state: StaleState,
    /// How it was superseded.
    pub superseded: Option<Superseded>,
    /// How long ago that was.
    pub superseded_seconds: Option<f64>,
    /// It is the first process of a pid namespace, which ends with it.
    pub is_init: bool,
    /// The path of its program.
    pub executable: Option<PathBuf>,
    /// What of it could not be read.
    pub unread: Option<&'static str>,
    /// The letter of its state.
    pub run_state: char,
    /// Its signals.
    pub signals: Signals,
    /// The pid of the process that traces it, or 0.
    pub tracer: i32,
    /// What bears on ending it.
    pub ending: Ending,
    /// The ports on which it listens.
    pub ports: BTreeSet<PortKey>,
    /// Its connections, if they are known.
    pub connections: Option<ConnectionCounts>,
    /// What moves on its connections, if that was read.
    pub traffic: Option<Traffic>,
}

impl Sight {
    /// Distils a sample, what was judged of it, and the traffic of its stale processes.
    /// `ticks_per_second`: of the start times of processes.
    #[must_use]
    pub fn of(
        snapshot: &Snapshot,
        verdict: &Verdict,
        traffic: &BTreeMap<ProcessId, Traffic>,
        (booted, ticks_per_second): (BootSeconds, u64),
    ) -> Sight {
        let facts = Facts {
            processes: snapshot.processes.iter().map(|process| (process.id, process)).collect(),
            traffic,
            booted,
            ticks_per_second,
        };
        let services = verdict.services.iter().filter(|service| !service.is_gone());
        Sight {
            taken: snapshot.taken,
            booted,
            blurred: blurred(snapshot, verdict),
            services: services.map(|s| (s.name.clone(), facts.service(s))).collect(),
        }
    }
}

/// The reason why nothing may be concluded from a sample.
fn blurred(snapshot: &Snapshot, verdict: &Verdict) -> Option<String> {
    let gaps = &snapshot.gaps;
    if gaps.torn {
        return Some("processes came or went while the host was looked at".to_owned());
    }
    if !gaps.unsearched.is_empty() || !gaps.lost.is_empty() {
        return Some("the search for the holders of listeners is not over".to_owned());
    }
    let services = verdict.services.iter().flat_map(|service| &service.processes);
    let placed: BTreeSet<ProcessId> = services.map(|process| process.id).collect();
    let is_new = |process: &&Process| {
        process.lives()
            && !placed.contains(&process.id)
            && snapshot.taken - process.started < YOUNG_SECONDS
    };
    let newcomer = snapshot.processes.iter().find(is_new)?;
    let pid = newcomer.id.pid;
    Some(format!("HAProxy pid {pid} has just been started, and it is not known for which service"))
}

struct Facts<'a> {
    processes: BTreeMap<ProcessId, &'a Process>,
    traffic: &'a BTreeMap<ProcessId, Traffic>,
    booted: BootSeconds,
    ticks_per_second: u64,
}

impl Facts<'_> {
    fn service(&self, service: &ServiceVerdict) -> ServiceSight {
        let of = |generation| {
            let processes = service.processes.iter();
            processes.filter(move |process| process.generation == generation)
        };
        let lives = |view: &&ProcessView| view.state != Some(StaleState::Zombie);
        let failed = service.reloads.last_successful == Some(false);
        let ports = service.ports.iter().filter(|port| port.generation == Generation::Current);
        let waiting = ports.clone().filter(|port| port.queue_length.is_some_and(|n| n > 0));
        let dead = service.processes.iter().filter(|view| !lives(view));
        let others = service.processes.iter().filter(|view| view.generation != Generation::Stale);
        ServiceSight {
            up: service.up,
            reloading: service.reloading,
            reload_failed: service.reloads.last_timestamp.filter(|_| failed),
            is_complete: Protocol::ALL.iter().all(|p| service.protocols_known.contains(p)),
            serving: of(Generation::Current).filter_map(|view| self.serving(view)).collect(),
            ports: ports.map(|port| port.key.clone()).collect(),
            waiting: waiting.map(|port| port.key.clone()).collect(),
            came_by_reload: of(Generation::Current)
                .filter(|view| view.role != Role::Master)
                .any(|view| view.role == Role::Worker || self.was_told(view)),
            stale: of(Generation::Stale)
                .filter(lives)
                .filter_map(|view| Some((view.id, self.stale(service, view)?)))
                .collect(),
            zombies: dead
                .filter_map(|view| Some((view.id.pid, self.processes.get(&view.id)?.parent)))
                .collect(),
            others: others.map(|view| (view.id.pid, view.generation)).collect(),
        }
    }

    fn serving(&self, view: &ProcessView) -> Option<Serving> {
        let process = self.processes.get(&view.id)?;
        let executable = process.executable.as_ref().map(|executable| executable.path.clone());
        Some(Serving { id: view.id, run_state: process.run_state, executable })
    }

    /// It was started with a list of processes to replace.
    fn was_told(&self, view: &ProcessView) -> bool {
        let arguments = self.processes.get(&view.id).and_then(|p| p.arguments.as_ref());
        let line = arguments.and_then(|arguments| CommandLine::parse(arguments));
        line.is_some_and(|line| line.replaces.is_some())
    }

    fn stale(&self, service: &ServiceVerdict, view: &ProcessView) -> Option<Stale> {
        let process = self.processes.get(&view.id)?;
        let ports = service.ports.iter().filter(|port| port.generation == Generation::Stale);
        let own = ports.filter(|port| port.pids.contains(&view.id.pid));
        Some(Stale {
            role: view.role,
            state: view.state.unwrap_or(StaleState::Unknown),
            superseded: view.superseded,
            superseded_seconds: view.superseded.map(|how| self.age_of(how.by)),
            is_init: process.own_pid() == 1,
            executable: process.executable.as_ref().map(|executable| executable.path.clone()),
            unread: unread(process),
            run_state: process.run_state,
            signals: process.signals.unwrap_or_default(),
            tracer: process.tracer,
            ending: view.ending.clone().unwrap_or_default(),
            ports: own.map(|port| port.key.clone()).collect(),
            connections: view.connections,
            traffic: self.traffic.get(&view.id).map(|traffic| Traffic {
                // Those of QUIC and of unix sockets are none of TCP.
                only_half_closed: traffic.only_half_closed
                    && view.connections.is_some_and(|all| all.total() == traffic.connections),
                ..*traffic
            }),
        })
    }

    /// How long ago a process was started. The wall clock has no part in it.
    #[allow(clippy::cast_precision_loss)] // the ticks of a century fit
    fn age_of(&self, id: ProcessId) -> f64 {
        self.booted - id.start_ticks as f64 / self.ticks_per_second as f64
    }
}

/// What could not be read of a process that must all be known before it is signalled.
fn unread(process: &Process) -> Option<&'static str> {
    let missing = [
        (process.arguments.is_none(), "its arguments"),
        (process.executable.is_none(), "its executable"),
        (process.environment.is_none(), "its environment"),
        (process.users.is_none(), "its users"),
        (process.signals.is_none(), "its signals"),
        (process.sockets.is_none(), "its descriptors"),
        (process.pid_namespace.is_none(), "its pid namespace"),
        (process.net_namespace.is_none(), "its network namespace"),
    ];
    missing.into_iter().find(|(is_missing, _)| *is_missing).map(|(_, what)| what)
}
