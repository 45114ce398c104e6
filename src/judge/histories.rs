//! Random histories of daemons on a staged host, judged sample by sample: what `tests/campaign` does with real
//! processes, a thousand times a minute. A history is reproduced by its number; `HISTORIES` is how many are played:
//! `HISTORIES=2000 cargo test --lib histories`.

use std::collections::{BTreeMap, BTreeSet};

use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::Verdict;
use crate::model::ConnectionState::Established;
use crate::stage::{Actor, Film, actor};

/// Draws from a number (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn one<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.next()).unwrap() % all.len()]
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// How the services of a history are run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Each has a configuration and a pidfile of its own.
    Pidfile,
    /// All have one file, which reads the port from the environment, and no pidfile.
    Twins,
}

/// One process of a service.
#[derive(Debug, Clone, Default)]
struct Daemon {
    pid: i32,
    started: f64,
    /// The process that it was told to replace.
    replaces: Option<i32>,
    listens: bool,
    has_clients: bool,
    /// Its sockets cannot be read in the next sample.
    is_hidden: bool,
}

/// How far the next reload has come when a sample is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
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
    const BUSY: [Self; 4] = [Self::Begun, Self::Bound, Self::TakenOver, Self::Forked];

    /// The predecessor has been told to stop, so the reload lands.
    fn lands(self) -> bool {
        matches!(self, Self::TakenOver | Self::Forked)
    }
}

/// One service and its history.
struct Service {
    manner: Manner,
    port: u16,
    daemons: Vec<Daemon>,
    reloads: u64,
    /// How often it was started anew.
    starts: u64,
    /// The processes that were called current, each with the names that its service was given.
    current: BTreeMap<i32, BTreeSet<String>>,
}

impl Service {
    fn new(manner: Manner, port: u16) -> Self {
        let (daemons, current) = (Vec::new(), BTreeMap::new());
        Self { manner, port, daemons, reloads: 0, starts: 0, current }
    }

    fn serving(&self) -> Option<&Daemon> {
        self.daemons.iter().rfind(|daemon| daemon.listens)
    }

    fn serving_mut(&mut self) -> Option<&mut Daemon> {
        self.daemons.iter_mut().rfind(|daemon| daemon.listens)
    }

    fn start(&mut self, pid: i32, started: f64) {
        self.daemons.push(Daemon { pid, started, listens: true, ..Daemon::default() });
        self.starts += 1;
    }

    fn reload(&mut self, pid: i32, started: f64, keeps_clients: bool) {
        let Some(old) = self.serving_mut() else { return };
        (old.listens, old.has_clients) = (false, old.has_clients || keeps_clients);
        let replaces = Some(old.pid);
        self.daemons.push(Daemon { pid, started, replaces, listens: true, ..Daemon::default() });
        self.reloads += 1;
    }

    fn kill(&mut self) {
        let serving = self.serving().map(|daemon| daemon.pid);
        self.daemons.retain(|daemon| Some(daemon.pid) != serving);
    }

    /// Clients go, and processes without clients end, if not at once.
    fn drain(&mut self, chance: &mut Chance) {
        for daemon in self.daemons.iter_mut().filter(|daemon| !daemon.listens) {
            daemon.has_clients &= !chance.once_in(4);
        }
        self.daemons.retain(|daemon| daemon.listens || daemon.has_clients || chance.once_in(5));
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // hundredths of a thousand seconds
    fn act(&self, daemon: &Daemon) -> Actor {
        let port = self.port;
        let list = daemon.replaces.map(|pid| format!("-sf {pid}")).unwrap_or_default();
        let line = match self.manner {
            Manner::Pidfile => format!("haproxy -D -f /{port}.cfg -p /run/{port}.pid {list}"),
            Manner::Twins => format!("haproxy -D -f /a.cfg {list}"),
        };
        let hundredths = (daemon.started * 100.0).round();
        let mut actor = actor(daemon.pid, 0, &line).change(|process| {
            process.started = hundredths / 100.0;
            process.id.start_ticks = hundredths as u64;
        });
        actor = match self.manner {
            Manner::Pidfile => actor.configured(&format!("frontend f\n bind :{port}\n"), 50),
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
        if daemon.is_hidden {
            actor = actor.change(|process| process.sockets = None);
        }
        actor
    }

    /// What a sample shows of it. A reload that is under way has the launcher `pid`, whose child is the next pid.
    fn cast(&self, phase: Phase, pid: i32, now: f64) -> Vec<Actor> {
        let old = self.serving();
        let replaces = old.map(|old| old.pid);
        let seen = self.daemons.iter().map(|daemon| {
            let lets_go = phase.lands() && Some(daemon.pid) == replaces;
            let draining = || Daemon { listens: false, has_clients: true, ..daemon.clone() };
            self.act(&if lets_go { draining() } else { daemon.clone() })
        });
        let mut cast: Vec<Actor> = seen.collect();
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

    /// The number of processes that were current in the service of this name, or in one that the same process was in
    /// under another name.
    fn of_one_service(&self, name: &str) -> u64 {
        let mut names = BTreeSet::from([name]);
        loop {
            let is_known = |of: &&BTreeSet<String>| of.iter().any(|name| names.contains(&**name));
            let found: Vec<_> = self.current.values().filter(is_known).collect();
            let before = names.len();
            names.extend(found.iter().copied().flatten().map(String::as_str));
            if names.len() == before {
                return found.len() as u64;
            }
        }
    }

    /// Compares the count of its reloads with those that were seen and those that were made.
    fn compare_count(&self, verdict: &Verdict) -> Result<(), String> {
        let serving = self.serving().ok_or("nothing serves")?;
        let (name, _) = find(verdict, serving.pid).ok_or("what serves is not there")?;
        let of_name = verdict.services.iter().find(|service| service.name == name);
        let counted = of_name.map_or(0, |service| service.reloads.successes);
        let least = self.of_one_service(name).saturating_sub(1 + self.starts);
        let most = self.reloads + self.starts;
        if (least..=most).contains(&counted) {
            return Ok(());
        }
        let seen = &self.current;
        Err(format!("{name}: {least} to {most} reloads, counted {counted}; seen were {seen:?}"))
    }
}

/// The service of a process, and its generation.
fn find(verdict: &Verdict, pid: i32) -> Option<(&str, Generation)> {
    verdict.services.iter().find_map(|service| {
        let process = service.processes.iter().find(|process| process.id.pid == pid)?;
        Some((&*service.name, process.generation))
    })
}

/// A host, and the exporter that watches it.
struct History {
    chance: Chance,
    services: Vec<Service>,
    film: Film,
    now: f64,
    last_pid: i32,
    /// The sockets of a process cannot be read once in so many samples, if ever.
    hidden: Option<u64>,
    /// What every sample showed.
    log: Vec<String>,
}

impl History {
    fn new(number: u64, manner: Manner, hidden: Option<u64>) -> Self {
        let mut chance = Chance(number);
        let ports = 8000..8000 + chance.one(&[2, 3]);
        let services = ports.map(|port| Service::new(manner, port)).collect();
        let (film, log) = (Film::default(), Vec::new());
        let mut history = Self { chance, services, film, now: 1000.0, last_pid: 100, hidden, log };
        history.live_before();
        history
    }

    fn next_pid(&mut self) -> i32 {
        self.last_pid += 10;
        self.last_pid
    }

    /// The services have been started and reloaded before the exporter.
    fn live_before(&mut self) {
        for at in 0..self.services.len() {
            let mut time = 500.0;
            for nth in 0..=self.chance.one(&[0, 1, 2]) {
                let (pid, keeps) = (self.next_pid(), self.chance.once_in(2));
                time += 100.0;
                match nth {
                    0 => self.services[at].start(pid, time),
                    _ => self.services[at].reload(pid, time, keeps),
                }
            }
            let service = &mut self.services[at];
            service.daemons.retain(|daemon| daemon.listens || daemon.has_clients);
            (service.reloads, service.starts) = (0, 0);
        }
    }

    /// What happens to a service between two samples.
    fn disturb(&mut self, at: usize, before: f64) {
        let step = (self.now - before) / 6.0;
        for nth in 1..=self.chance.one(&[0, 0, 1, 1, 2, 4]) {
            let time = before + step * f64::from(nth);
            let pid = self.next_pid();
            let service = &mut self.services[at];
            if service.serving().is_none() {
                service.start(pid, time);
            } else if self.chance.once_in(10) {
                service.kill();
                if self.chance.once_in(2) {
                    service.start(pid, time);
                }
            } else {
                service.reload(pid, time, self.chance.once_in(2));
            }
        }
        self.services[at].drain(&mut self.chance);
    }

    /// Shows the exporter a sample, in which reloads are under way unless the services rest.
    fn sample(&mut self, rests: bool) -> Verdict {
        let before = self.now;
        self.now += self.chance.one(&[0.3, 0.4, 1.0, 3.0, 8.0]);
        let mut cast = Vec::new();
        for at in 0..self.services.len() {
            let mut phase = Phase::Rest;
            if !rests {
                self.disturb(at, before);
                let is_busy = self.services[at].serving().is_some() && self.chance.once_in(3);
                phase = if is_busy { self.chance.one(&Phase::BUSY) } else { Phase::Rest };
            } else if self.services[at].serving().is_none() {
                let pid = self.next_pid();
                self.services[at].start(pid, before + 0.01);
            }
            let pid = self.next_pid();
            let service = &mut self.services[at];
            for daemon in &mut service.daemons {
                daemon.is_hidden =
                    !rests && self.hidden.is_some_and(|times| self.chance.once_in(times));
            }
            cast.extend(service.cast(phase, pid, self.now));
            if phase.lands() {
                service.reload(pid + 1, self.now - 0.02, true);
            }
        }
        let verdict = self.film.see(self.now, &cast);
        let shown = verdict.services.iter().map(|service| {
            format!("{} [{}] {}", service.name, service.cast(), service.reloads.successes)
        });
        self.log.push(format!("{:.1}: {}", self.now, shown.collect::<Vec<_>>().join("; ")));
        verdict
    }

    /// No process that serves is called stale, and none that drains anything else once the services have rested.
    fn compare(&mut self, verdict: &Verdict, is_settled: bool) -> Result<(), String> {
        for service in &mut self.services {
            // Once a later process was called current, what drains is stale, whatever serves now.
            let last = service.current.last_key_value().map_or(0, |(pid, _)| *pid);
            let old = service.daemons.iter().filter(|daemon| !daemon.listens);
            let mut old = old.filter(|daemon| is_settled || daemon.pid < last);
            let of = |daemon: &Daemon| find(verdict, daemon.pid);
            if let Some(old) = old.find(|old| !matches!(of(old), Some((_, Generation::Stale)))) {
                return Err(format!("{} drains and is {:?}", old.pid, of(old)));
            }
            let Some(serving) = service.serving() else { continue };
            let pid = serving.pid;
            match find(verdict, pid) {
                Some((_, Generation::Stale)) => return Err(format!("{pid} serves and is stale")),
                Some((name, Generation::Current)) => {
                    service.current.entry(pid).or_default().insert(name.to_owned());
                }
                other if is_settled => return Err(format!("{pid} serves and is {other:?}")),
                _ => {}
            }
        }
        Ok(())
    }

    fn play(&mut self) -> Result<(), String> {
        let verdict = self.sample(true);
        self.compare(&verdict, false)?;
        for _ in 0..self.chance.one(&[6, 12, 18, 24]) {
            let verdict = self.sample(false);
            self.compare(&verdict, false)?;
        }
        self.sample(true);
        for _ in 0..2 {
            let verdict = self.sample(true);
            self.compare(&verdict, true)?;
        }
        let verdict = self.sample(true);
        self.services.iter().try_for_each(|service| service.compare_count(&verdict))
    }
}

fn play(manner: Manner, hidden: Option<u64>) {
    let number = |variable| std::env::var(variable).ok()?.parse::<u64>().ok();
    let mut wrong = Vec::new();
    for number in 0..number("HISTORIES").unwrap_or(100) {
        let mut history = History::new(number, manner, hidden);
        if let Err(what) = history.play() {
            wrong.push(format!("history {number}: {what}\n{}", history.log.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn random_histories_of_daemons_with_pidfiles_are_read_rightly() {
    play(Manner::Pidfile, None);
}

#[test]
fn they_are_while_sockets_cannot_be_read() {
    play(Manner::Pidfile, Some(12));
}

/// Of twins whose sockets are out of sight, it cannot be said which process follows which.
#[test]
fn random_histories_of_services_from_one_file_are_read_rightly() {
    play(Manner::Twins, None);
}
