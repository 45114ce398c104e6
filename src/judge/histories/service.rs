//! One service of a random history: its processes, and what a sample shows of them.

use super::chance::Chance;
use super::current::{Current, of_one_service};
use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::Verdict;
use crate::model::ConnectionState::Established;
use crate::model::{NamespaceId, Pidfile};
use crate::stage::{Actor, actor};

/// How the services of a history are run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Manner {
    /// Each has a configuration and a pidfile of its own.
    Pidfile,
    /// The same, each process in a mount namespace of its own, as `ip netns exec` makes it.
    Namespaces,
    /// All have one file, which reads the port from the environment, and no pidfile.
    Twins,
}

/// One process of a service.
#[derive(Debug, Clone, Default)]
pub(super) struct Daemon {
    pub pid: i32,
    pub started: f64,
    /// The process that it was told to replace.
    pub replaces: Option<i32>,
    pub listens: bool,
    pub has_clients: bool,
    /// Its sockets cannot be read in the next sample.
    pub is_hidden: bool,
    /// It is ending: it has given up its memory, and still holds its descriptors.
    pub is_ending: bool,
}

/// How far the next reload has come when a sample is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// There is none.
    Rest,
    /// The launcher holds no listener yet.
    Begun,
    /// The launcher and its predecessor both hold listeners.
    Bound,
    /// The predecessor has let go, and the launcher holds the listeners.
    TakenOver,
    /// So does the launcher's child, which will be the service.
    Forked,
}

impl Phase {
    pub const BUSY: [Self; 4] = [Self::Begun, Self::Bound, Self::TakenOver, Self::Forked];

    /// The predecessor has been told to stop, so the reload lands.
    pub fn lands(self) -> bool {
        matches!(self, Self::TakenOver | Self::Forked)
    }
}

/// One service and its history.
pub(super) struct Service {
    pub manner: Manner,
    pub port: u16,
    pub daemons: Vec<Daemon>,
    /// Those that end, which the next sample still shows.
    pub ending: Vec<Daemon>,
    pub reloads: u64,
    /// How often it was started anew.
    pub starts: u64,
    pub current: Current,
}

impl Service {
    pub fn new(manner: Manner, port: u16) -> Self {
        let (daemons, ending) = (Vec::new(), Vec::new());
        Self { manner, port, daemons, ending, reloads: 0, starts: 0, current: Current::new() }
    }

    pub fn serving(&self) -> Option<&Daemon> {
        self.daemons.iter().rfind(|daemon| daemon.listens)
    }

    pub fn serving_mut(&mut self) -> Option<&mut Daemon> {
        self.daemons.iter_mut().rfind(|daemon| daemon.listens)
    }

    pub fn start(&mut self, pid: i32, started: f64) {
        self.daemons.push(Daemon { pid, started, listens: true, ..Daemon::default() });
        self.starts += 1;
    }

    pub fn reload(&mut self, pid: i32, started: f64, keeps_clients: bool) {
        let Some(old) = self.serving_mut() else { return };
        (old.listens, old.has_clients) = (false, old.has_clients || keeps_clients);
        let replaces = Some(old.pid);
        self.daemons.push(Daemon { pid, started, replaces, listens: true, ..Daemon::default() });
        self.reloads += 1;
    }

    pub fn kill(&mut self) {
        let serving = self.serving().map(|daemon| daemon.pid);
        let ended = self.daemons.extract_if(.., |daemon| Some(daemon.pid) == serving);
        self.ending.extend(ended);
    }

    /// Clients go, and processes without clients end, if not at once.
    pub fn drain(&mut self, chance: &mut Chance) {
        for daemon in self.daemons.iter_mut().filter(|daemon| !daemon.listens) {
            daemon.has_clients &= !chance.once_in(4);
        }
        let ended =
            |daemon: &mut Daemon| !(daemon.listens || daemon.has_clients || chance.once_in(5));
        self.ending.extend(self.daemons.extract_if(.., ended));
        self.ending.retain(|_| chance.once_in(4));
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few thousand seconds, in hundredths
    fn act(&self, daemon: &Daemon) -> Actor {
        let port = self.port;
        let list = daemon.replaces.map(|pid| format!("-sf {pid}")).unwrap_or_default();
        let line = match self.manner {
            Manner::Pidfile | Manner::Namespaces => {
                format!("haproxy -D -f /{port}.cfg -p /run/{port}.pid {list}")
            }
            Manner::Twins => format!("haproxy -D -f /a.cfg {list}"),
        };
        let hundredths = (daemon.started * 100.0).round();
        let mut actor = actor(daemon.pid, 0, &line).change(|process| {
            process.started = hundredths / 100.0;
            process.id.start_ticks = hundredths as u64;
        });
        actor = match self.manner {
            Manner::Pidfile | Manner::Namespaces => {
                actor.configured(&format!("frontend f\n bind :{port}\n"), 50)
            }
            Manner::Twins => {
                let actor = actor.configured("frontend f\n bind :\"${PORT}\"\n", 50);
                actor.variable("PORT", &port.to_string())
            }
        };
        if daemon.listens {
            actor = actor.tcp(port, daemon.pid.unsigned_abs().into());
        }
        if daemon.has_clients {
            actor = actor.connected(100_000 + u64::from(daemon.pid.unsigned_abs()), Established);
        }
        if self.manner == Manner::Namespaces {
            actor = actor.change(|process| {
                let file = Some((1, u64::from(port)));
                let path = format!("/run/{port}.pid").into();
                process.mount_namespace = Some(NamespaceId(daemon.pid.unsigned_abs().into()));
                process.pidfile = Some(Pidfile { file, ..Pidfile::unread(path) });
            });
        }
        if daemon.is_ending {
            actor = actor.change(|process| {
                process.is_ending = true;
                process.arguments = None;
                process.environment = None;
                process.configuration = None;
                process.executable = None;
            });
        }
        if daemon.is_hidden {
            actor = actor.change(|process| process.sockets = None);
        }
        actor
    }

    /// What a sample shows of it. A reload that is under way has the launcher `pid`, whose child is the next pid.
    pub fn cast(&self, phase: Phase, pid: i32, now: f64) -> Vec<Actor> {
        let old = self.serving();
        let replaces = old.map(|old| old.pid);
        let seen = self.daemons.iter().map(|daemon| {
            let lets_go = phase.lands() && Some(daemon.pid) == replaces;
            let draining = || Daemon { listens: false, has_clients: true, ..daemon.clone() };
            self.act(&if lets_go { draining() } else { daemon.clone() })
        });
        let ending =
            self.ending.iter().map(|one| self.act(&Daemon { is_ending: true, ..one.clone() }));
        let mut cast: Vec<Actor> = seen.chain(ending).collect();
        if phase != Phase::Rest {
            let listens = phase != Phase::Begun;
            let launcher =
                Daemon { pid, started: now - 0.05, replaces, listens, ..Daemon::default() };
            let starter = 1;
            cast.push(self.act(&launcher).child_of(starter));
            if phase == Phase::Forked {
                let child =
                    Daemon { pid: pid + 1, started: now - 0.02, listens: false, ..launcher };
                let child = self.act(&child).tcp(self.port, pid.unsigned_abs().into());
                let leads_a_session =
                    |process: &mut crate::model::Process| process.session = pid + 1;
                cast.push(child.child_of(pid).change(leads_a_session));
            }
        }
        cast
    }

    /// Compares the count of its reloads with those that were seen and those that were made.
    pub fn compare_count(&self, verdict: &Verdict) -> Result<(), String> {
        let serving = self.serving().ok_or("nothing serves")?;
        let (name, _) = find(verdict, serving.pid).ok_or("what serves is not there")?;
        let of_name = verdict.services.iter().find(|service| service.name == name);
        let counted = of_name.map_or(0, |service| service.reloads.successes);
        let seen = of_one_service(&self.current, name) as u64;
        let least = seen.saturating_sub(1 + self.starts);
        let most = self.reloads + self.starts;
        if (least..=most).contains(&counted) {
            return Ok(());
        }
        let seen = &self.current;
        Err(format!("{name}: {least} to {most} reloads, counted {counted}; seen were {seen:?}"))
    }
}

/// The service of a process, and its generation.
pub(super) fn find(verdict: &Verdict, pid: i32) -> Option<(&str, Generation)> {
    verdict.services.iter().find_map(|service| {
        let process = service.processes.iter().find(|process| process.id.pid == pid)?;
        Some((&*service.name, process.generation))
    })
}
