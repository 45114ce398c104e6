//! One reaper at work: it looks, plans, and carries out one step at a time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use jiff::ZonedDateTime;
use rustix::io::Errno;
use rustix::time::ClockId;

use super::audit_log::AuditLog;
use super::bindable::bindable;
use super::records::{Records, Stop};
use crate::cli::Reap;
use crate::cmd::Error;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::Verdict;
use crate::model::{ProcessId, Snapshot, Unreadable};
use crate::policy::reap::MinuteOfWeek;
use crate::reap::effect::{Awaited, Effect, Seen, given_back, port_name};
use crate::reap::execute::{self, Handle};
use crate::reap::guards::Hold;
use crate::reap::plan::{Held, Plan, Request, Step, Terms};
use crate::reap::sight::BootSeconds;
use crate::reap::state::Run;
use crate::reap::store::{self, Store};
use crate::reap::{Sight, plan};
use crate::report::reap::StepResult;
use crate::watch::Watcher;

/// The time between two looks for the effect of a signal.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// A reaper.
#[derive(Debug)]
pub struct Reaper {
    /// The watcher, to give it another configuration.
    pub watcher: Watcher,
    request: Request,
    procfs: PathBuf,
    off_file: PathBuf,
    records: Records,
    ticks_per_second: u64,
    looks: (Sight, Sight),
    last: (Snapshot, Verdict),
}

impl Reaper {
    /// Takes the lock and reads the state, if this run may change it.
    pub fn new(reap: &Reap, mut watcher: Watcher, audit: AuditLog) -> Result<Reaper, Stop> {
        let keeps = reap.execute || reap.watch;
        let store = keeps.then(|| Store::open(&reap.state_file)).transpose()?;
        let state = match &store {
            Some(store) => store.load()?,
            None => store::peek(&reap.state_file)?,
        };
        watcher.sampler().insist_on_connections();
        Ok(Reaper {
            watcher,
            request: Request { service: reap.haproxy.clone(), pid: reap.pid },
            procfs: reap.options.procfs.clone(),
            off_file: reap.off_file.clone(),
            records: Records::open(audit, store, state)?,
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            looks: (Sight::default(), Sight::default()),
            last: (Snapshot::default(), Verdict::default()),
        })
    }

    /// Looks at the host. The look before becomes the one that it is compared with.
    pub fn look(&mut self) {
        self.looks.0 = self.looks.1.clone();
        self.look_again();
    }

    /// Looks at the host once more. It is compared with the same look as before, because a state that
    /// lasts for a few milliseconds proves little.
    fn look_again(&mut self) {
        let (snapshot, verdict) = self.watcher.observe();
        let views = verdict.services.iter().flat_map(|service| &service.processes);
        let stale = views.filter(|view| view.generation == Generation::Stale);
        let stale: BTreeSet<ProcessId> = stale.map(|view| view.id).collect();
        let traffic = self.watcher.sampler().traffic(&snapshot, &stale);
        let clock = (boot_seconds(), self.ticks_per_second);
        let sight = Sight::of(&snapshot, &verdict, &traffic, clock);
        self.records.history = self.records.history.after(&sight);
        self.looks.1 = sight;
        self.last = (snapshot, verdict);
    }

    /// Begins another run of `--watch`.
    pub fn begin_run(&mut self) {
        self.records.sent_in_run.clear();
    }

    /// The error of a request that names what is not here.
    pub fn check_request(&self) -> Result<(), Error> {
        let services = &self.looks.1.services;
        let is_known =
            |name: &str| services.contains_key(name) || self.watcher.policy().is_configured(name);
        if let Some(name) = self.request.service.as_ref().filter(|name| !is_known(name)) {
            let names = services.keys().cloned().collect();
            return Err(Error::UnknownHaproxy { name: name.clone(), names });
        }
        let Some(pid) = self.request.pid else { return Ok(()) };
        let Some((name, service)) = services.iter().find(|(_, service)| service.has(pid)) else {
            return Err(Error::NoHaproxyProcess { pid });
        };
        match service.others.get(&pid).map(|generation| generation.as_str()) {
            Some(generation) => Err(Error::NotStale { pid, haproxy: name.clone(), generation }),
            None => Ok(()),
        }
    }

    /// Plans by the last two looks.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let terms = Terms {
            request: &self.request,
            policy: self.watcher.policy(),
            local: local_minute(),
            sent_in_run: &self.records.sent_in_run,
        };
        plan(&self.looks.0, &self.looks.1, &self.records.history, &terms)
    }

    /// The plan with the steps held back that the off file or a missing right forbids.
    #[must_use]
    pub fn with_forbidden_steps_held(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        let off = execute::is_off(&self.off_file);
        for service in &mut plan.services {
            for step in std::mem::take(&mut service.steps) {
                let hold = if off {
                    Some(Hold::Off(self.off_file.clone()))
                } else {
                    let handle = self.handle(&service.name, step.id);
                    handle.is_some_and(|handle| !handle.may_signal()).then_some(Hold::MissingRight)
                };
                match hold {
                    None => service.steps.push(step),
                    Some(hold) => service.held.push(Held {
                        id: step.id,
                        state: step.state,
                        signal: Some(step.signal),
                        why: step.why,
                        hold,
                    }),
                }
            }
        }
        plan
    }

    /// What could not be read in the last look.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.last.1.unreadable
    }

    /// It is not known of some service whether it serves.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.looks.1.services.values().any(|service| service.up.is_none())
    }

    /// Carries out a step, if a fresh look still allows it. `waits`: also waits for the effect, for as long
    /// as the policy gives the process.
    pub fn carry_out(
        &mut self,
        service: &str,
        planned: &Step,
        waits: bool,
    ) -> Result<StepResult, Stop> {
        let withheld = |hold| Ok(nothing_done(planned.id, hold));
        // The process is pinned before the look by which it is judged.
        let Some(handle) = self.handle(service, planned.id) else { return withheld(Hold::Changed) };
        self.look_again();
        let fresh = self.plan();
        let step = match fresh.step(planned.id) {
            Some((_, step)) if step.signal == planned.signal => step.clone(),
            _ => {
                let held = fresh.held().find(|held| held.id == planned.id);
                return withheld(held.map_or(Hold::Changed, |held| held.hold.clone()));
            }
        };
        if execute::is_off(&self.off_file) {
            return withheld(Hold::Off(self.off_file.clone()));
        }
        if !handle.may_signal() {
            return withheld(Hold::MissingRight);
        }
        let moment = (boot_seconds(), self.looks.1.taken);
        let patience = self.step_grace(service);
        let awaited = self.records.announce(service, &step, patience, moment)?;
        if let Err(errno) = handle.send(step.signal) {
            return self.refused(&awaited, errno);
        }
        self.records.confirm(step.id)?;
        // Without waiting, the effect is looked for in a later round.
        if waits {
            self.await_effect(&awaited, &step)
        } else {
            Ok(done(step.id, Effect::Unchanged))
        }
    }

    fn handle(&self, service: &str, id: ProcessId) -> Option<Handle> {
        let stale = self.looks.1.services.get(service)?.stale.get(&id)?;
        Handle::open(&self.procfs, id, stale.executable.as_deref()?)
    }

    fn step_grace(&self, service: &str) -> f64 {
        let reap = self.watcher.policy().rules(service).reap.clone();
        reap.unwrap_or_default().step_grace_seconds
    }

    fn refused(&mut self, awaited: &Awaited, errno: Errno) -> Result<StepResult, Stop> {
        let id = awaited.id();
        if errno == Errno::SRCH {
            // It ended in the moment before, so no signal reached it.
            let seen = Seen { effect: Effect::Ended, released: awaited.ports.clone() };
            self.records.settle(awaited, &seen, &self.looks.1)?;
            return Ok(StepResult { released: seen.released, ..done(id, Effect::Ended) });
        }
        self.records.refuse(awaited, errno, self.looks.1.taken)?;
        match errno {
            Errno::PERM => Ok(nothing_done(id, Hold::MissingRight)),
            _ => Ok(done(id, Effect::Refused)),
        }
    }

    /// Looks until the effect of a signal is seen. SIGUSR1 to a process without a listener shows no effect
    /// until it ends.
    fn await_effect(&mut self, awaited: &Awaited, step: &Step) -> Result<StepResult, Stop> {
        loop {
            thread::sleep(BETWEEN_LOOKS);
            self.look_again();
            let Some(seen) = awaited.seen_in(&self.looks.1) else { continue };
            self.records.settle(awaited, &seen, &self.looks.1)?;
            let service = self.looks.1.services.get(&awaited.service);
            if service.is_some_and(|service| service.up == Some(false)) {
                return Err(Stop::NotUp(awaited.service.clone()));
            }
            let left = service.and_then(|service| service.stale.get(&step.id)?.connections);
            let given_back = given_back(service, &seen.released);
            let starter = self.starter(&awaited.service);
            let ports = step.ports.iter().filter(|port| given_back.contains(&port_name(port)));
            let checked = ports.map(|port| {
                (port_name(port), bindable(&mut self.watcher, &self.last.0, port, starter))
            });
            let given_back = checked.collect();
            let Seen { effect, released } = seen;
            return Ok(StepResult { released, given_back, left, ..done(step.id, effect) });
        }
    }

    fn starter(&self, name: &str) -> Option<u32> {
        let service = self.last.1.services.iter().find(|service| service.name == name)?;
        service.identity.starter
    }

    /// Records the effects that the last look shows of signals that were sent before.
    pub fn settle_awaited(&mut self) -> Result<(), Stop> {
        self.records.settle_awaited(&self.looks.1)
    }

    /// Ends a run.
    pub fn finish(&mut self, success: bool, plan: &Plan) -> Result<(), Stop> {
        self.records.finish(Run { timestamp: self.looks.1.taken, success }, plan)
    }
}

fn done(id: ProcessId, effect: Effect) -> StepResult {
    StepResult {
        id,
        outcome: Ok(effect),
        released: BTreeSet::new(),
        given_back: Vec::new(),
        left: None,
    }
}

fn nothing_done(id: ProcessId, hold: Hold) -> StepResult {
    StepResult { outcome: Err(hold), ..done(id, Effect::Unchanged) }
}

/// Seconds since boot, suspends included.
fn boot_seconds() -> BootSeconds {
    crate::sample::clock::seconds(ClockId::Boottime)
}

/// The present minute of the week in the host's time zone (`TZ`, else /etc/localtime).
fn local_minute() -> MinuteOfWeek {
    let now = ZonedDateTime::now();
    let day = u16::try_from(now.weekday().to_monday_zero_offset()).unwrap_or_default();
    let of = |number: i8| u16::try_from(number).unwrap_or_default();
    MinuteOfWeek::at(day, of(now.hour()), of(now.minute()))
}
