//! Random histories of daemons on a staged host, judged sample by sample: what `tests/campaign` does with real
//! processes, thousands of times a minute. A history is repeated by its number; `HISTORIES` is how many are played:
//! `HISTORIES=2000 cargo test --lib judge::histories`.

#[allow(dead_code)] // the campaign uses more of it
mod chance;
mod current;
mod service;

use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::Verdict;
use crate::stage::Film;

use chance::Chance;
use service::{Daemon, Manner, Phase, Service, find};

/// A host, and the exporter that watches it.
struct History {
    chance: Chance,
    services: Vec<Service>,
    film: Film,
    now: f64,
    last_pid: i32,
    /// The sockets of a process cannot be read once in so many samples, if ever.
    hidden: Option<usize>,
    /// What every sample showed.
    log: Vec<String>,
}

impl History {
    fn new(number: u64, manner: Manner, hidden: Option<usize>) -> Self {
        let mut chance = Chance::new(number);
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
            if rests {
                service.ending.clear();
            }
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

fn play(manner: Manner, hidden: Option<usize>) {
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

#[test]
fn they_are_where_each_process_has_a_mount_namespace_of_its_own() {
    play(Manner::Namespaces, None);
}

/// Of twins whose sockets are out of sight, it cannot be said which process follows which.
#[test]
fn random_histories_of_services_from_one_file_are_read_rightly() {
    play(Manner::Twins, None);
}
