//! Keeps what the metrics say of backups, on a thread of its own, so that reading files never delays a
//! sample.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use super::priority::lower_priority;
use crate::backup::disk::present::Hashes;
use crate::backup::disk::survey::survey;
use crate::backup::state::State;
use crate::judge::verdict::Verdict;
use crate::policy::Policy;

/// The number of samples between two looks at the backups.
const SAMPLES: u32 = 12;

type States = Arc<Mutex<BTreeMap<String, State>>>;

/// What to look at: the directory, and the names of the services.
type Order = (PathBuf, Vec<String>);

/// Looks at the backups now and then.
#[derive(Debug)]
pub struct Surveyor {
    states: States,
    orders: SyncSender<Order>,
    interval: Duration,
    next: Instant,
    directory: Option<PathBuf>,
}

impl Surveyor {
    /// Starts the thread, which ends with this.
    pub fn start(sample_interval: Duration) -> Surveyor {
        let states = States::default();
        // While one look lasts, one more waits at most.
        let (orders, received) = mpsc::sync_channel::<Order>(1);
        let shared = Arc::clone(&states);
        thread::spawn(move || {
            lower_priority();
            let mut hashes = Hashes::default();
            let mut said = None;
            while let Ok((directory, services)) = received.recv() {
                let found = survey(&directory, &services, &mut hashes);
                let problem = found.as_ref().err().map(ToString::to_string);
                if let Some(error) = problem.as_ref().filter(|_| problem != said) {
                    warn!(%error, "the backups cannot be read");
                }
                said = problem;
                // What could not be read is not known.
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = found.unwrap_or_default();
            }
        });
        let interval = sample_interval * SAMPLES;
        Surveyor { states, orders, interval, next: Instant::now(), directory: None }
    }

    /// What is known of the backups; asks for another look if it is time.
    pub fn states(&mut self, policy: &Policy, verdict: &Verdict) -> BTreeMap<String, State> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if self.directory != policy.backup_directory {
            self.directory.clone_from(&policy.backup_directory);
            self.next = Instant::now();
            states.clear();
        }
        let Some(directory) = &policy.backup_directory else { return BTreeMap::new() };
        if Instant::now() >= self.next {
            let services = verdict.services.iter().map(|service| service.name.clone()).collect();
            if self.orders.try_send((directory.clone(), services)).is_ok() {
                self.next = Instant::now() + self.interval;
            }
        }
        states.clone()
    }
}
