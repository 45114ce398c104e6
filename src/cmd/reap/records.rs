//! What a reaper records of its signals: in the audit before and after each, and in the state file, so that
//! a reaper that ends at any moment has counted what it may have sent.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::audit_log::AuditLog;
use crate::model::{ProcessId, UnixSeconds};
use crate::reap::History;
use crate::reap::audit;
use crate::reap::effect::{Awaited, Effect, Seen, given_back, port_name};
use crate::reap::plan::{Plan, Step};
use crate::reap::sight::{BootSeconds, Sight};
use crate::reap::state::{Era, Run, State};
use crate::reap::store::{self, Store};

/// Why a reaper must not signal anything.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The state cannot be kept.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The boot cannot be identified.
    #[error("the id of this boot: {0}")]
    Era(std::io::Error),
    /// The audit cannot be written.
    #[error("the audit log: {0}")]
    Audit(String),
    /// After a step the service did not serve any more.
    #[error("{0} does not serve any more")]
    NotUp(String),
}

/// The records of one reaper.
#[derive(Debug)]
pub struct Records {
    audit: AuditLog,
    /// The state file; `None` if this run changes nothing that outlives it.
    store: Option<Store>,
    era: Era,
    state: State,
    /// What is remembered of processes and signals.
    pub history: History,
    /// How many signals this run has sent, by service.
    pub sent_in_run: BTreeMap<String, u32>,
}

impl Records {
    /// Reads the state. With `store`, this run may change it.
    pub fn open(audit: AuditLog, store: Option<Store>, state: State) -> Result<Records, Stop> {
        let era = store::era().map_err(Stop::Era)?;
        let history = state.history(&era);
        let mut state = state;
        state.enter(&era);
        Ok(Records { audit, store, era, state, history, sent_in_run: BTreeMap::new() })
    }

    /// Records the intent. A signal that cannot be recorded is not sent.
    pub fn announce(
        &mut self,
        service: &str,
        step: &Step,
        patience_seconds: f64,
        (at, now): (BootSeconds, UnixSeconds),
    ) -> Result<Awaited, Stop> {
        self.audit.write(&audit::intent(service, step, now)).map_err(Stop::Audit)?;
        let awaited = Awaited {
            service: service.to_owned(),
            pid: step.id.pid,
            start_ticks: step.id.start_ticks,
            signal: step.signal,
            state: step.state.as_str().to_owned(),
            at,
            patience_seconds,
            ports: step.ports.iter().map(port_name).collect(),
        };
        self.history = self.history.with_signal(service, step.id, step.signal, at);
        *self.sent_in_run.entry(service.to_owned()).or_default() += 1;
        self.state.awaited.push(awaited.clone());
        self.save()?;
        Ok(awaited)
    }

    /// Records that the kernel has taken the signal.
    pub fn confirm(&mut self, id: ProcessId) -> Result<(), Stop> {
        self.history = self.history.with_signal_taken(id);
        self.save()
    }

    /// Records that the kernel has refused the signal.
    pub fn refuse(
        &mut self,
        awaited: &Awaited,
        errno: Errno,
        now: UnixSeconds,
    ) -> Result<(), Stop> {
        self.forget(awaited);
        self.state.count(awaited, Effect::Refused, 0);
        let line = audit::refused(awaited, &errno.to_string(), now);
        self.audit.write(&line).map_err(Stop::Audit)?;
        self.save()
    }

    /// Records what came of a signal.
    pub fn settle(&mut self, awaited: &Awaited, seen: &Seen, sight: &Sight) -> Result<(), Stop> {
        self.forget(awaited);
        self.state.count(awaited, seen.effect, seen.released.len() as u64);
        let service = sight.services.get(&awaited.service);
        let process = service.and_then(|service| service.stale.get(&awaited.id()));
        let given_back = given_back(service, &seen.released);
        let line = audit::outcome(awaited, seen, &given_back, process, sight.taken);
        self.audit.write(&line).map_err(Stop::Audit)?;
        self.save()
    }

    /// Records the effects that a look shows of signals that were sent before, by this run or by one that
    /// ended early.
    pub fn settle_awaited(&mut self, sight: &Sight) -> Result<(), Stop> {
        for awaited in self.state.awaited.clone() {
            if let Some(seen) = awaited.seen_in(sight) {
                self.settle(&awaited, &seen, sight)?;
            }
        }
        Ok(())
    }

    /// Ends a run: stores the number of steps that wait for nothing but a permission, and whether the run
    /// saw and could do everything.
    pub fn finish(&mut self, run: Run, plan: &Plan) -> Result<(), Stop> {
        // What was never signalled and is not looked at any more is forgotten: any user can make names.
        let is_planned = |name: &String| plan.services.iter().any(|service| service.name == *name);
        self.state.haproxys.retain(|name, counters| !counters.steps.is_empty() || is_planned(name));
        for counters in self.state.haproxys.values_mut() {
            counters.pending = 0;
        }
        for service in &plan.services {
            let held = service.held.iter().filter(|held| held.hold.is_for_now()).count();
            let open = service.steps.iter().filter(|step| !self.was_signalled(step.id)).count();
            let counters = self.state.haproxys.entry(service.name.clone()).or_default();
            counters.pending = (held + open) as u64;
        }
        self.state.last_run = Some(run);
        self.save()
    }

    fn was_signalled(&self, id: ProcessId) -> bool {
        let has_sent = self.sent_in_run.values().any(|&count| count > 0);
        has_sent && self.history.recent.iter().any(|sent| sent.id() == id)
    }

    fn forget(&mut self, awaited: &Awaited) {
        self.state.awaited.retain(|other| other != awaited);
    }

    fn save(&mut self) -> Result<(), Stop> {
        self.state.enter(&self.era);
        self.state.remember(&self.history);
        match &self.store {
            Some(store) => Ok(store.save(&self.state)?),
            None => Ok(()),
        }
    }
}
