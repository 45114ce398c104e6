//! What `reap` remembers between looks and between runs: since when a process has been without a
//! listener, what moved on its connections, and which signals were sent.
//!
//! All times are taken from `CLOCK_BOOTTIME`, which cannot be set, so that setting the wall clock shortens
//! no grace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sight::{BootSeconds, Sight, Stale};
use crate::judge::verdict::StaleState;
use crate::model::ProcessId;
use crate::policy::reap::StopSignal;

/// The span in which signals are counted against the caps.
pub const HOUR_SECONDS: f64 = 3600.0;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The living stale processes.
    pub processes: BTreeMap<ProcessId, ProcessHistory>,
    /// The signals of the last hour, the oldest first.
    pub recent: Vec<Sent>,
}

/// What is remembered of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessHistory {
    /// Since when it has been seen without a listener.
    pub without_listener: Option<BootSeconds>,
    /// Since when no byte has moved on its half-closed connections, and the bytes moved until then.
    pub still: Option<(BootSeconds, u64)>,
    /// The last signal that it was sent.
    pub last_signal: Option<LastSignal>,
}

/// The last signal to a process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LastSignal {
    /// The signal.
    pub signal: StopSignal,
    /// When it was announced.
    pub at: BootSeconds,
    /// The kernel has taken it. Otherwise the reaper ended before it could note that, and perhaps before it
    /// could send the signal.
    pub confirmed: bool,
}

/// A signal that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The name of the service.
    #[serde(rename = "haproxy")]
    pub service: String,
    /// The pid of the process.
    pub pid: i32,
    /// Its start, in ticks since boot.
    pub start_ticks: u64,
    /// When it was sent.
    pub at: BootSeconds,
}

impl Sent {
    /// The process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { start_ticks: self.start_ticks, pid: self.pid }
    }
}

impl History {
    /// The history after a look. Processes that are gone or no longer stale are forgotten; where the look
    /// is blurred, nothing changes.
    #[must_use]
    pub fn after(&self, sight: &Sight) -> History {
        let recent = self.recent.iter().filter(|sent| sight.booted - sent.at < HOUR_SECONDS);
        let recent = recent.cloned().collect();
        if sight.blurred.is_some() {
            return History { processes: self.processes.clone(), recent };
        }
        let stale = sight.services.values().flat_map(|service| &service.stale);
        let processes = stale.map(|(id, process)| {
            let before = self.processes.get(id).cloned().unwrap_or_default();
            (*id, before.after(process, sight.booted))
        });
        History { processes: processes.collect(), recent }
    }

    /// The history once a signal is announced.
    #[must_use]
    pub fn with_signal(
        &self,
        service: &str,
        id: ProcessId,
        signal: StopSignal,
        at: BootSeconds,
    ) -> History {
        let mut history = self.clone();
        let process = history.processes.entry(id).or_default();
        process.last_signal = Some(LastSignal { signal, at, confirmed: false });
        let ProcessId { pid, start_ticks } = id;
        history.recent.push(Sent { service: service.to_owned(), pid, start_ticks, at });
        history
    }

    /// The history once the kernel has taken the last signal to a process.
    #[must_use]
    pub fn with_signal_taken(&self, id: ProcessId) -> History {
        let mut history = self.clone();
        let process = history.processes.get_mut(&id);
        if let Some(last) = process.and_then(|process| process.last_signal.as_mut()) {
            last.confirmed = true;
        }
        history
    }

    /// What is remembered of a process.
    #[must_use]
    pub fn of(&self, id: ProcessId) -> ProcessHistory {
        self.processes.get(&id).cloned().unwrap_or_default()
    }
}

impl ProcessHistory {
    fn after(self, process: &Stale, now: BootSeconds) -> ProcessHistory {
        let without_listener = match process.state {
            StaleState::Draining | StaleState::Idle => self.without_listener.or(Some(now)),
            // Where it cannot be seen whether it listens, what was seen before may no longer hold.
            StaleState::Listening | StaleState::Zombie | StaleState::Unknown => None,
        };
        let traffic = process.traffic.filter(|traffic| traffic.only_half_closed);
        let still = traffic.and_then(|traffic| traffic.moved_bytes).map(|moved| match self.still {
            Some((since, before)) if before == moved => (since, moved),
            _ => (now, moved),
        });
        ProcessHistory { without_listener, still, last_signal: self.last_signal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Traffic;
    use crate::reap::plan::tests::stale;
    use crate::reap::sight::ServiceSight;

    const ID: ProcessId = ProcessId { start_ticks: 1000, pid: 10 };

    fn sight(booted: f64, process: Stale) -> Sight {
        let service =
            ServiceSight { stale: BTreeMap::from([(ID, process)]), ..ServiceSight::default() };
        let services = BTreeMap::from([("a".to_owned(), service)]);
        Sight { booted, services, ..Sight::default() }
    }

    #[test]
    fn patience_begins_when_the_listener_is_first_seen_gone() {
        let listening = stale(StaleState::Listening);
        let idle = stale(StaleState::Idle);
        let history = History::default().after(&sight(100.0, listening.clone()));
        assert_eq!(history.of(ID).without_listener, None);
        let history = history.after(&sight(105.0, idle.clone())).after(&sight(110.0, idle.clone()));
        assert_eq!(history.of(ID).without_listener, Some(105.0));
        let unknown = stale(StaleState::Unknown);
        let history = history.after(&sight(115.0, unknown)).after(&sight(120.0, idle.clone()));
        assert_eq!(history.of(ID).without_listener, Some(120.0), "it may have listened meanwhile");
        let blurred = Sight { blurred: Some(String::new()), ..sight(125.0, listening) };
        let history = history.after(&blurred).after(&sight(130.0, idle));
        assert_eq!(history.of(ID).without_listener, Some(120.0));
        assert_eq!(history.after(&Sight::default()).processes.len(), 0, "it is gone");
    }

    #[test]
    fn a_byte_that_moves_begins_the_patience_anew() {
        let half = |moved_bytes| Stale {
            traffic: Some(Traffic {
                connections: 1,
                peers: 1,
                moved_bytes,
                only_half_closed: true,
            }),
            ..stale(StaleState::Draining)
        };
        let mut history = History::default();
        let table = [
            (100.0, Some(7), Some((100.0, 7))),
            (200.0, Some(7), Some((100.0, 7))),
            (300.0, Some(8), Some((300.0, 8))),
            (400.0, None, None),
            (500.0, Some(8), Some((500.0, 8))),
        ];
        for (booted, moved, expected) in table {
            history = history.after(&sight(booted, half(moved)));
            assert_eq!(history.of(ID).still, expected, "{booted}");
        }
        let open = Stale {
            traffic: Some(Traffic {
                connections: 1,
                peers: 1,
                moved_bytes: Some(8),
                only_half_closed: false,
            }),
            ..stale(StaleState::Draining)
        };
        assert_eq!(history.after(&sight(600.0, open)).of(ID).still, None);
    }

    #[test]
    fn signals_count_for_an_hour() {
        let history = History::default().with_signal("a", ID, StopSignal::Usr1, 100.0);
        let idle = stale(StaleState::Idle);
        let later = history.after(&sight(3699.0, idle.clone()));
        let last = LastSignal { signal: StopSignal::Usr1, at: 100.0, confirmed: false };
        assert_eq!((later.recent.len(), later.of(ID).last_signal), (1, Some(last)));
        let taken = later.with_signal_taken(ID).of(ID).last_signal;
        assert_eq!(taken, Some(LastSignal { confirmed: true, ..last }));
        assert_eq!(later.after(&sight(3700.0, idle)).recent.len(), 0);
    }
}
