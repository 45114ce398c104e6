//! Random histories of a host, by a simulator that knows the truth: whatever happens, no plan names a process
//! that must be left alone.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Request, Terms, plan};
use crate::model::ConnectionState::Established;
use crate::model::ProcessId;
use crate::policy::reap::{MinuteOfWeek, ReapPolicy, StopSignal};
use crate::policy::{Policy, Rules};
use crate::reap::{History, Sight};
use crate::stage::{Actor, Film, actor, snapshot};

/// What may happen between two looks.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A reload: the old process is told, and handles it at once.
    Reload,
    /// A reload whose signal is lost: the old process goes on.
    LostSignal,
    /// A reload with an empty list, which leaves the old process behind.
    Forgotten,
    /// A start that has not taken over yet.
    Starts,
    /// The process that starts fails and ends.
    Fails,
    /// A client connects to the serving process.
    Connects,
    /// A client of the oldest process leaves.
    Leaves,
    /// The serving process ends.
    Dies,
    /// Another service is started from the same file with another port.
    Twin,
    /// Another user starts one that claims to replace the serving process.
    Claim,
    /// Another user starts a look-alike with the same arguments.
    LookAlike,
    /// Nothing.
    Time,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Reload),
        2 => Just(Event::LostSignal),
        2 => Just(Event::Forgotten),
        2 => Just(Event::Starts),
        1 => Just(Event::Fails),
        3 => Just(Event::Connects),
        2 => Just(Event::Leaves),
        1 => Just(Event::Dies),
        1 => Just(Event::Twin),
        1 => Just(Event::Claim),
        1 => Just(Event::LookAlike),
        2 => Just(Event::Time),
    ]
}

/// One process as it really is.
#[derive(Debug, Clone)]
struct Truth {
    pid: i32,
    started: u32,
    line: String,
    port: u16,
    user: u32,
    inode: u64,
    listens: bool,
    clients: Vec<u64>,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It serves, or has just been started: whatever a plan thinks of it, it must live.
    Serves,
    /// It was replaced.
    Replaced,
    /// It is no business of root's service.
    Foreign,
}

const LINE: &str = "haproxy -D -f /lb.cfg -p /run/lb.pid";
const TEXT: &str = "listen f\n bind :\"${PORT}\"\n";
const OTHER: u32 = 65534;

#[derive(Debug)]
struct Host {
    now: u32,
    next: i32,
    processes: Vec<Truth>,
    serving: Option<i32>,
    starting: Option<i32>,
}

impl Host {
    fn new() -> Host {
        let mut host =
            Host { now: 1000, next: 10, processes: Vec::new(), serving: None, starting: None };
        host.serving = Some(host.spawn(LINE, 80, 0, true, Part::Serves));
        host
    }

    fn spawn(&mut self, line: &str, port: u16, user: u32, listens: bool, role: Part) -> i32 {
        let pid = self.next;
        self.next += 1;
        let inode = u64::try_from(pid).unwrap() * 100;
        let (started, line) = (self.now, line.to_owned());
        self.processes.push(Truth {
            pid,
            started,
            line,
            port,
            user,
            inode,
            listens,
            clients: Vec::new(),
            part: role,
        });
        pid
    }

    fn process(&mut self, pid: i32) -> &mut Truth {
        self.processes.iter_mut().find(|process| process.pid == pid).unwrap()
    }

    /// A new process takes over, with this list of the processes that it replaces.
    fn replace(&mut self, list: &str, hears: bool) {
        let old = self.serving;
        let line = format!("{LINE} {list}");
        self.serving = Some(self.spawn(&line, 80, 0, true, Part::Serves));
        if let Some(old) = old {
            let old = self.process(old);
            old.part = Part::Replaced;
            old.listens &= !hears;
        }
        // What was starting before is older than what serves now, and so it was superseded.
        if let Some(starting) = self.starting.take() {
            self.process(starting).part = Part::Replaced;
        }
        self.leave();
    }

    /// What has neither a listener nor a client ends by itself, but for every third process, which leaks.
    fn leave(&mut self) {
        self.processes.retain(|process| {
            process.part != Part::Replaced
                || process.listens
                || !process.clients.is_empty()
                || process.pid % 3 == 0
        });
    }

    fn happen(&mut self, event: Event) {
        self.now += 20;
        let told = self.serving.map(|pid| format!("-sf {pid}")).unwrap_or_default();
        match event {
            Event::Reload => self.replace(&told, true),
            Event::LostSignal => self.replace(&told, false),
            Event::Forgotten => self.replace("-sf", false),
            Event::Starts if self.starting.is_none() => {
                let line = format!("{LINE} {told}");
                self.starting = Some(self.spawn(&line, 80, 0, false, Part::Serves));
            }
            Event::Fails => {
                let starting = self.starting.take();
                self.processes.retain(|process| Some(process.pid) != starting);
            }
            Event::Connects => {
                if let Some(serving) = self.serving {
                    let inode = 1_000_000 + u64::from(self.now);
                    self.process(serving).clients.push(inode);
                }
            }
            Event::Leaves => {
                let mut processes = self.processes.iter_mut();
                if let Some(process) = processes.find(|process| !process.clients.is_empty()) {
                    process.clients.pop();
                }
                self.leave();
            }
            Event::Dies => {
                let serving = self.serving.take();
                self.processes.retain(|process| Some(process.pid) != serving);
            }
            Event::Twin => {
                let line = "haproxy -D -f /lb.cfg";
                self.spawn(line, 81, 0, true, Part::Foreign);
            }
            Event::Claim => {
                let line = format!("haproxy -D -f /their.cfg {told}");
                self.spawn(&line, 8055, OTHER, true, Part::Foreign);
            }
            Event::LookAlike => {
                // With one pidfile and one starter, the next replaces the one before.
                let theirs = self.processes.iter_mut().filter(|p| p.user == OTHER && p.port == 80);
                theirs.for_each(|process| process.part = Part::Replaced);
                let line = format!("{LINE} {told}");
                self.spawn(&line, 80, OTHER, true, Part::Foreign);
            }
            Event::Starts | Event::Time => {}
        }
    }

    fn actors(&self) -> Vec<Actor> {
        let serving = self.serving;
        let stage = |truth: &Truth| {
            let mut actor = actor(truth.pid, truth.started, &truth.line).of_user(truth.user);
            actor = actor.configured(TEXT, 50).variable("PORT", &truth.port.to_string());
            if truth.user == 0 && truth.port == 80 {
                let pids: Vec<i32> = serving.into_iter().collect();
                actor = actor.pidfile(&pids);
            }
            if truth.listens {
                actor = actor.tcp(truth.port, truth.inode);
            }
            for inode in &truth.clients {
                actor = actor.connected(*inode, Established);
            }
            actor
        };
        self.processes.iter().map(stage).collect()
    }

    /// What must not be signalled, and what must not be ended.
    fn check(&self, id: ProcessId, signal: StopSignal) -> Result<(), String> {
        let truth = self.processes.iter().find(|process| process.pid == id.pid);
        let Some(truth) = truth else { return Err(format!("pid {} is not there", id.pid)) };
        let is_cut = signal != StopSignal::Usr1 && !truth.clients.is_empty();
        // Others that answer in its stead: those that it belongs to, and not itself.
        let mut others = self
            .processes
            .iter()
            .filter(|other| other.listens && (other.user, other.port) == (truth.user, truth.port));
        let is_last = !others.any(|other| other.pid != truth.pid);
        if truth.part != Part::Replaced || is_cut || is_last {
            return Err(format!("SIG{} to {truth:?}", signal.as_str()));
        }
        Ok(())
    }
}

/// The policy that asks for the most.
fn impatient() -> Policy {
    let reap = ReapPolicy {
        listening_seconds: 0.0,
        idle_seconds: 0.0,
        step_grace_seconds: 0.0,
        last_signal: StopSignal::Kill,
        max_per_run: 100,
        max_per_hour: 1000,
        max_share: 1.0,
        ..ReapPolicy::default()
    };
    Policy { defaults: Rules { reap: Some(reap), ..Rules::default() }, ..Policy::default() }
}

/// Plays a history; returns how many steps were planned, or the first one that must not be.
fn play(events: &[Event]) -> Result<usize, String> {
    let (mut host, policy) = (Host::new(), impatient());
    let mut film = Film::with(policy.clone());
    let (mut history, mut before, mut planned) = (History::default(), Sight::default(), 0);
    let (none, request) = (BTreeMap::new(), Request::default());
    let mut told = BTreeSet::new();
    for event in events {
        host.happen(*event);
        for pause in [0, 1, 15] {
            host.now += pause;
            let (now, actors) = (f64::from(host.now), host.actors());
            let verdict = film.see(now, &actors);
            let sample = snapshot(now, &actors);
            let sight = Sight::of(&sample, &verdict, &BTreeMap::new(), (now, 100));
            history = history.after(&sight);
            let terms = Terms {
                request: &request,
                policy: &policy,
                local: MinuteOfWeek::at(0, 0, 0),
                sent_in_run: &none,
            };
            let plan = plan(&before, &sight, &history, &terms);
            for (service, step) in plan.steps() {
                host.check(step.id, step.signal)?;
                planned += 1;
                history = history.with_signal(service, step.id, step.signal, now);
                history = history.with_signal_taken(step.id);
                told.insert(step.id.pid);
            }
            before = sight;
        }
        // What was told hears it, but for every fourth process.
        for process in &mut host.processes {
            if told.contains(&process.pid) && process.pid % 4 != 0 {
                process.listens = false;
            }
        }
        host.leave();
    }
    Ok(planned)
}

#[test]
fn a_history_with_a_forgotten_process_is_cleaned_up() {
    use Event::{Connects, Forgotten, Leaves, Reload, Time};
    for history in [
        vec![Forgotten, Time],
        vec![Connects, Forgotten, Time, Leaves, Time],
        vec![Reload, Reload, Forgotten, Forgotten, Time],
    ] {
        assert!(play(&history).unwrap() > 0, "{history:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_names_a_protected_process(history in prop::collection::vec(events(), 1..14)) {
        let outcome = play(&history);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }
}
