//! Decides which stale processes get which signal: a pure function of two looks, what was done before, and
//! the policy.

use std::collections::{BTreeMap, BTreeSet};

use super::caps::Caps;
use super::due::{Due, due};
use super::guards::{self, Hold};
use super::history::History;
use super::sight::{ServiceSight, Sight, Stale};
use crate::haproxy::lineage::proof::Superseded;
use crate::judge::verdict::{ConnectionCounts, PortKey, StaleState};
use crate::model::ProcessId;
use crate::model::time::age;
use crate::policy::Policy;
use crate::policy::reap::{MinuteOfWeek, ReapPolicy, StopSignal};

/// What `reap` was asked to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// This service only (`--haproxy`), whether or not the policy has a section for it.
    pub service: Option<String>,
    /// This process only (`--pid`). A person who names it vouches that it was superseded.
    pub pid: Option<i32>,
}

/// What is allowed at this moment.
#[derive(Debug)]
pub struct Terms<'a> {
    /// What `reap` was asked to look at.
    pub request: &'a Request,
    /// The policy.
    pub policy: &'a Policy,
    /// The local time.
    pub local: MinuteOfWeek,
    /// How many signals this run has sent, by service.
    pub sent_in_run: &'a BTreeMap<String, u32>,
}

/// What to do, service by service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The services that were looked at, by name.
    pub services: Vec<ServicePlan>,
}

/// What to do to one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServicePlan {
    /// The name of the service.
    pub name: String,
    /// The steps that are allowed, in order.
    pub steps: Vec<Step>,
    /// The steps that are due and held back.
    pub held: Vec<Held>,
    /// The processes for which nothing is due, each with the reason.
    pub waiting: Vec<Waiting>,
    /// The pids of zombies, each with the pid of its parent.
    pub zombies: Vec<(i32, i32)>,
}

/// One signal to one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The process.
    pub id: ProcessId,
    /// The signal.
    pub signal: StopSignal,
    /// Why the process is still there.
    pub state: StaleState,
    /// Why it is due.
    pub why: String,
    /// What proves that it was superseded.
    pub superseded: Option<Superseded>,
    /// The ports on which it listens.
    pub ports: BTreeSet<PortKey>,
    /// What it has that the signal may cut.
    pub clients: Clients,
    /// How HAProxy would end it by itself.
    pub ends_itself: Option<String>,
}

/// The clients of a process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clients {
    /// Its connections by state, if they are known.
    pub connections: Option<ConnectionCounts>,
    /// The number of their remote addresses, if that was read.
    pub peers: Option<u64>,
    /// The least age of every connection: the process has been seen without a listener for so long, and
    /// without one it takes no new client.
    pub least_age_seconds: Option<f64>,
}

/// A step that is due and held back.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The process.
    pub id: ProcessId,
    /// Why it is still there.
    pub state: StaleState,
    /// The signal that is due; `None` if none would help.
    pub signal: Option<StopSignal>,
    /// Why it would be due.
    pub why: String,
    /// Why it is held back.
    pub hold: Hold,
}

/// A process for which nothing is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The process.
    pub id: ProcessId,
    /// Why it is still there.
    pub state: StaleState,
    /// Why nothing is due.
    pub why: String,
}

impl Plan {
    /// The step for a process, if one is allowed.
    #[must_use]
    pub fn step(&self, id: ProcessId) -> Option<(&str, &Step)> {
        self.steps().find(|(_, step)| step.id == id)
    }

    /// Every step that is allowed, each with its service.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &Step)> {
        self.services
            .iter()
            .flat_map(|service| service.steps.iter().map(move |step| (service.name.as_str(), step)))
    }

    /// Every step that is held back.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.services.iter().flat_map(|service| &service.held)
    }
}

/// Plans. `before` and `now` are two looks in a row, and `history` is what was remembered after the second.
#[must_use]
pub fn plan(before: &Sight, now: &Sight, history: &History, terms: &Terms<'_>) -> Plan {
    let services = now.services.iter();
    let chosen = services.filter_map(|(name, service)| {
        Some((name.as_str(), service, chosen_policy(name, service, terms)?))
    });
    let chosen: Vec<(&str, &ServiceSight, ReapPolicy)> = chosen.collect();
    let policies = chosen.iter().map(|(_, _, policy)| policy);
    let mut caps = Caps::new(history, terms.sent_in_run, policies, now.booted);
    let services = chosen.iter().map(|(name, service, policy)| {
        let planner = Planner { looks: (before, now), name, service, policy, history, terms };
        planner.plan(&mut caps)
    });
    Plan { services: services.collect() }
}

/// The policy for a service; `None` if it is not looked at.
fn chosen_policy(name: &str, service: &ServiceSight, terms: &Terms<'_>) -> Option<ReapPolicy> {
    let Request { service: only, pid } = terms.request;
    let own = terms.policy.rules(name).reap.clone();
    let is_named = only.as_deref() == Some(name)
        || (only.is_none() && pid.is_some_and(|pid| service.has(pid)));
    match (is_named, only.is_none() && pid.is_none()) {
        (true, _) => Some(own.unwrap_or_default()),
        (false, true) => own,
        (false, false) => None,
    }
}

struct Planner<'a> {
    looks: (&'a Sight, &'a Sight),
    name: &'a str,
    service: &'a ServiceSight,
    policy: &'a ReapPolicy,
    history: &'a History,
    terms: &'a Terms<'a>,
}

impl Planner<'_> {
    fn plan(&self, caps: &mut Caps) -> ServicePlan {
        let mut plan = ServicePlan {
            name: self.name.to_owned(),
            zombies: self.service.zombies.clone(),
            ..ServicePlan::default()
        };
        let earlier = self.looks.0.services.get(self.name);
        let guard =
            guards::of_service(self.looks, (earlier, self.service), self.policy.step_grace_seconds);
        for (id, process) in self.candidates() {
            let past = self.history.of(id);
            let (signal, why) = match due(process, &past, self.policy, self.looks.1.booted) {
                Due::Waiting(why) => {
                    plan.waiting.push(Waiting { id, state: process.state, why });
                    continue;
                }
                Due::Stuck(hold) => {
                    let (state, why) = (process.state, String::new());
                    plan.held.push(Held { id, state, signal: None, why, hold });
                    continue;
                }
                Due::Signal(signal, why) => (signal, why),
            };
            let before = earlier.and_then(|earlier| earlier.stale.get(&id));
            let is_named = self.terms.request.pid == Some(id.pid);
            let hold = guard
                .clone()
                .or_else(|| guards::of_process(self.service, before, process, signal, is_named))
                .or_else(|| self.quiet())
                .or_else(|| caps.take(self.name, id, self.policy, &self.living()).err());
            let state = process.state;
            match hold {
                Some(hold) => plan.held.push(Held { id, state, signal: Some(signal), why, hold }),
                None => plan.steps.push(self.step(id, process, signal, why)),
            }
        }
        plan
    }

    /// The stale processes that were asked for. What takes clients comes first, then what has none, and
    /// among these the oldest.
    fn candidates(&self) -> Vec<(ProcessId, &Stale)> {
        let wanted = |id: ProcessId| self.terms.request.pid.is_none_or(|pid| pid == id.pid);
        let stale = self.service.stale.iter().filter(|(id, _)| wanted(**id));
        let mut candidates: Vec<_> = stale.map(|(id, process)| (*id, process)).collect();
        candidates.sort_by_key(|(id, process)| (rank(process.state), *id));
        candidates
    }

    fn quiet(&self) -> Option<Hold> {
        let quiet = self.policy.quiet.iter().find(|quiet| quiet.contains(self.terms.local))?;
        Some(Hold::Quiet(quiet.written.clone()))
    }

    fn living(&self) -> BTreeSet<ProcessId> {
        let serving = self.service.serving.iter().map(|serving| serving.id);
        serving.chain(self.service.stale.keys().copied()).collect()
    }

    fn step(&self, id: ProcessId, process: &Stale, signal: StopSignal, why: String) -> Step {
        let past = self.history.of(id);
        Step {
            id,
            signal,
            state: process.state,
            why,
            superseded: process.superseded,
            ports: process.ports.clone(),
            clients: Clients {
                connections: process.connections,
                peers: process.traffic.map(|traffic| traffic.peers),
                least_age_seconds: past.without_listener.map(|since| self.looks.1.booted - since),
            },
            ends_itself: ends_itself(process, past.last_signal.is_some()),
        }
    }
}

impl ServiceSight {
    /// Whether a process of the service has this pid.
    #[must_use]
    pub fn has(&self, pid: i32) -> bool {
        self.stale.keys().any(|id| id.pid == pid)
            || self.others.contains_key(&pid)
            || self.zombies.iter().any(|(zombie, _)| *zombie == pid)
    }
}

/// The order in which processes are ended.
fn rank(state: StaleState) -> u8 {
    match state {
        StaleState::Listening => 0,
        StaleState::Idle => 1,
        StaleState::Draining => 2,
        StaleState::Zombie | StaleState::Unknown => 3,
    }
}

/// How HAProxy would end a process by itself, as its configuration says.
fn ends_itself(process: &Stale, was_told: bool) -> Option<String> {
    let hard_stop = process.ending.hard_stop_after_seconds.map(|seconds| {
        let begins = if was_told { "after its SIGUSR1" } else { "after a SIGUSR1" };
        format!("hard-stop-after {} {begins}", age(seconds))
    });
    let reloads = process.ending.max_reloads.map(|reloads| {
        format!("mworker-max-reloads: once it has survived {reloads} reloads of its master")
    });
    let ways: Vec<String> = hard_stop.into_iter().chain(reloads).collect();
    (!ways.is_empty()).then(|| ways.join("; "))
}

#[cfg(test)]
mod histories;
#[cfg(test)]
#[allow(missing_docs, clippy::must_use_candidate)] // only for tests
pub mod tests;
