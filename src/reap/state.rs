//! The state file: what `reap` remembers over separate runs, and what `serve` shows of it as metrics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::effect::{Awaited, Effect};
use super::history::{History, ProcessHistory, Sent};
use crate::model::{ProcessId, UnixSeconds};
use crate::policy::reap::StopSignal;

/// The version of the format.
const VERSION: u32 = 1;

/// The span of numbers within which start ticks, pids and boot times mean something: one boot, and one pid
/// namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// The id of the boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The inode of the pid namespace (`/proc/self/ns/pid`).
    pub pid_namespace: u64,
}

/// The content of the state file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the format.
    version: u32,
    /// The boot and the pid namespace to which the histories belong.
    era: Era,
    /// The last run, or the last round of `--watch`.
    pub last_run: Option<Run>,
    /// The counters of each service.
    pub haproxys: BTreeMap<String, Counters>,
    /// The processes that are remembered.
    processes: Vec<Remembered>,
    /// The signals of the last hour.
    recent: Vec<Sent>,
    /// The signals whose effect has not been seen yet.
    pub awaited: Vec<Awaited>,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it was.
    pub timestamp: UnixSeconds,
    /// Everything could be seen, and every signal that was due could be sent.
    pub success: bool,
}

/// The counters of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The steps that the policy allows and that a dry run, a cap, a quiet time or a missing right holds
    /// back.
    pub pending: u64,
    /// The listeners that were released by steps.
    pub ports_released: u64,
    /// The signals by what came of them.
    pub steps: Vec<StepCount>,
}

/// The number of signals of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepCount {
    /// The signal.
    pub signal: StopSignal,
    /// Why the processes were still there.
    pub state: String,
    /// What came of them.
    pub result: String,
    /// How many there were.
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    pid: i32,
    start_ticks: u64,
    #[serde(flatten)]
    history: ProcessHistory,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not what a reaper writes.
    #[error("not the state of a reaper: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A later version of this program has written it.
    #[error("written by a later version (format {0}, this program knows {VERSION})")]
    Later(u32),
}

impl State {
    /// Parses a state file.
    pub fn parse(text: &str) -> Result<State, Damage> {
        let state: State = serde_json::from_str(text)?;
        if state.version == VERSION { Ok(state) } else { Err(Damage::Later(state.version)) }
    }

    /// Writes a state file.
    #[must_use]
    pub fn text(&self) -> String {
        let state = State { version: VERSION, ..self.clone() };
        serde_json::to_string(&state).unwrap_or_default() + "\n"
    }

    /// What is remembered, if it belongs to this era: a process of another boot has another meaning.
    #[must_use]
    pub fn history(&self, era: &Era) -> History {
        if self.era != *era {
            return History::default();
        }
        let processes = self.processes.iter().map(|remembered| {
            let Remembered { pid, start_ticks, history } = remembered.clone();
            (ProcessId { start_ticks, pid }, history)
        });
        History { processes: processes.collect(), recent: self.recent.clone() }
    }

    /// Forgets what belongs to another era; counters go on.
    pub fn enter(&mut self, era: &Era) {
        if self.era != *era {
            let (last_run, haproxys) = (self.last_run, std::mem::take(&mut self.haproxys));
            *self = State { era: era.clone(), last_run, haproxys, ..State::default() };
        }
    }

    /// Stores what is remembered.
    pub fn remember(&mut self, history: &History) {
        let processes = history.processes.iter().map(|(id, history)| Remembered {
            pid: id.pid,
            start_ticks: id.start_ticks,
            history: history.clone(),
        });
        self.processes = processes.collect();
        self.recent.clone_from(&history.recent);
    }

    /// Counts what came of a signal.
    pub fn count(&mut self, awaited: &Awaited, effect: Effect, released: u64) {
        let counters = self.haproxys.entry(awaited.service.clone()).or_default();
        counters.ports_released += released;
        let is_same = |step: &&mut StepCount| {
            step.signal == awaited.signal
                && step.state == awaited.state
                && step.result == effect.as_str()
        };
        match counters.steps.iter_mut().find(is_same) {
            Some(step) => step.count += 1,
            None => counters.steps.push(StepCount {
                signal: awaited.signal,
                state: awaited.state.clone(),
                result: effect.as_str().to_owned(),
                count: 1,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn era(boot_id: &str) -> Era {
        Era { boot_id: boot_id.to_owned(), pid_namespace: 7 }
    }

    fn awaited() -> Awaited {
        Awaited {
            service: "lb".to_owned(),
            pid: 10,
            start_ticks: 1000,
            signal: StopSignal::Usr1,
            state: "listening".to_owned(),
            at: 5.0,
            patience_seconds: 30.0,
            ports: BTreeSet::from(["tcp 0.0.0.0:80".to_owned()]),
        }
    }

    fn filled() -> State {
        let id = ProcessId { start_ticks: 1000, pid: 10 };
        let mut state = State::default();
        state.enter(&era("a"));
        state.remember(&History::default().with_signal("lb", id, StopSignal::Usr1, 5.0));
        state.count(&awaited(), Effect::Drains, 2);
        state.count(&awaited(), Effect::Drains, 1);
        state.awaited.push(awaited());
        state.last_run = Some(Run { timestamp: 1.5, success: true });
        state
    }

    #[test]
    fn what_is_written_is_read() {
        let state = filled();
        let read = State::parse(&state.text()).unwrap();
        assert_eq!(State { version: 0, ..read.clone() }, state);
        assert_eq!(read.history(&era("a")).recent.len(), 1);
        let counters = &read.haproxys["lb"];
        assert_eq!((counters.ports_released, counters.steps[0].count), (3, 2));
    }

    #[test]
    fn another_boot_keeps_the_counters_alone() {
        let mut state = filled();
        assert_eq!(state.history(&era("b")), History::default());
        state.enter(&era("b"));
        assert!(state.awaited.is_empty() && state.history(&era("b")) == History::default());
        assert_eq!(state.haproxys["lb"].ports_released, 3);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let text = filled().text();
        let later = text.replace("\"version\":1", "\"version\":2");
        for damaged in ["", "{}", "[]", "null", &text[..text.len() / 2], &later] {
            assert!(State::parse(damaged).is_err(), "{damaged}");
        }
    }
}
