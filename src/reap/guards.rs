//! Every reason to leave a process alone.
//!
//! A condition over something that could not be seen is false: a process that was not found to be
//! harmless is protected.

use std::path::PathBuf;

use super::sight::{ServiceSight, Sight, Stale};
use crate::haproxy::lineage::member::Role;
use crate::haproxy::lineage::proof::Proof;
use crate::judge::verdict::{PortKey, StaleState};
use crate::model::Signals;
use crate::policy::reap::StopSignal;

/// Why a process is not signalled.
#[derive(Debug, Clone, PartialEq)]
pub enum Hold {
    /// No current process of the service serves, or it is not known whether one does.
    NotUp(Option<bool>),
    /// Nothing can be concluded from the look.
    Blurred(String),
    /// Not every listener of the service is known.
    Incomplete,
    /// A reload is under way.
    Reloading(&'static str),
    /// A reload failed this number of seconds ago.
    ReloadFailed(f64),
    /// A serving process is stopped or stuck: its pid and the letter of its state.
    ServingHalted(i32, char),
    /// Clients wait at the serving process, which leaves them there.
    Unserved(PortKey),
    /// The look before did not show the same.
    Unconfirmed,
    /// Something of it could not be read.
    Unread(&'static str),
    /// One of its sockets was not found in any table.
    HiddenSocket,
    /// It is not known what it still does.
    UnknownState,
    /// It is a master.
    Master,
    /// A container ends with it.
    Init,
    /// Its program is not that of the serving process.
    OtherProgram(Option<PathBuf>),
    /// It has no handler for SIGUSR1, which would end it at once.
    NoHandler,
    /// A debugger holds it.
    Traced(i32),
    /// Nothing shows how it was superseded.
    NoProof,
    /// That it was superseded is inferred.
    Inferred(Proof),
    /// It was told to go by a process that has nothing in common with it.
    Stranger,
    /// The serving process lacks listeners that it should have and this process has.
    Needed(Vec<PortKey>),
    /// SIGUSR1 was sent and it still listens.
    IgnoresSoftStop,
    /// The policy permits no stronger signal.
    LastSignal(StopSignal),
    /// The policy permits no more signals in this run.
    RunCap(u32),
    /// The policy permits no more signals within an hour.
    HourCap(u32),
    /// The policy permits no more signals within an hour to the processes of one service: the number of those that
    /// were signalled, and of those that live.
    ShareCap(usize, usize),
    /// It is a quiet time.
    Quiet(String),
    /// A file switches `reap` off.
    Off(PathBuf),
    /// The right to signal it is missing.
    MissingRight,
    /// What was planned is no longer so.
    Changed,
}

impl Hold {
    /// A short name for JSON.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Hold::NotUp(_) => "not_up",
            Hold::Blurred(_) => "blurred",
            Hold::Incomplete => "incomplete",
            Hold::Reloading(_) => "reloading",
            Hold::ReloadFailed(_) => "reload_failed",
            Hold::ServingHalted(..) => "serving_halted",
            Hold::Unserved(_) => "unserved",
            Hold::Unconfirmed => "unconfirmed",
            Hold::Unread(_) => "unread",
            Hold::HiddenSocket => "hidden_socket",
            Hold::UnknownState => "unknown_state",
            Hold::Master => "master",
            Hold::Init => "init",
            Hold::OtherProgram(_) => "other_program",
            Hold::NoHandler => "no_handler",
            Hold::Traced(_) => "traced",
            Hold::NoProof => "no_proof",
            Hold::Inferred(_) => "inferred",
            Hold::Stranger => "stranger",
            Hold::Needed(_) => "needed",
            Hold::IgnoresSoftStop => "ignores_soft_stop",
            Hold::LastSignal(_) => "last_signal",
            Hold::RunCap(_) => "max_per_run",
            Hold::HourCap(_) => "max_per_hour",
            Hold::ShareCap(..) => "max_share",
            Hold::Quiet(_) => "quiet",
            Hold::Off(_) => "off",
            Hold::MissingRight => "missing_right",
            Hold::Changed => "changed",
        }
    }

    /// The policy allows the step; only a cap, a quiet time, a switch or a missing right holds it back.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        matches!(
            self,
            Hold::RunCap(_)
                | Hold::HourCap(_)
                | Hold::ShareCap(..)
                | Hold::Quiet(_)
                | Hold::Off(_)
                | Hold::MissingRight
        )
    }
}

/// Why no process of a service may be signalled.
#[must_use]
pub fn of_service(
    sights: (&Sight, &Sight),
    services: (Option<&ServiceSight>, &ServiceSight),
    step_grace_seconds: f64,
) -> Option<Hold> {
    let (before, now) = sights;
    let (earlier, service) = services;
    if service.up != Some(true) {
        return Some(Hold::NotUp(service.up));
    }
    if let Some(why) = now.blurred.as_ref().or(before.blurred.as_ref()) {
        return Some(Hold::Blurred(why.clone()));
    }
    let Some(earlier) = earlier.filter(|earlier| earlier.up == Some(true)) else {
        return Some(Hold::Unconfirmed);
    };
    let reloading = service.reloading.or(earlier.reloading);
    // A clock that was set back makes it lie in the future.
    let failed_ago = service.reload_failed.map(|failed| now.taken - failed);
    let is_complete = service.is_complete && earlier.is_complete;
    let waiting = || service.waiting.intersection(&earlier.waiting).next().cloned();
    reloading
        .map(Hold::Reloading)
        .or_else(|| failed_ago.filter(|ago| *ago < step_grace_seconds).map(Hold::ReloadFailed))
        .or_else(|| (!is_complete).then_some(Hold::Incomplete))
        .or_else(|| halted(earlier, service))
        .or_else(|| waiting().map(Hold::Unserved))
}

/// A serving process that is stopped, or that was stuck in both looks.
fn halted(earlier: &ServiceSight, service: &ServiceSight) -> Option<Hold> {
    let was_stuck = |id| {
        let before = earlier.serving.iter().find(|serving| serving.id == id);
        before.is_none_or(|before| before.run_state == 'D')
    };
    let halted = service.serving.iter().find(|serving| match serving.run_state {
        'R' | 'S' | 'I' => false,
        'D' => was_stuck(serving.id),
        _ => true,
    })?;
    Some(Hold::ServingHalted(halted.id.pid, halted.run_state))
}

/// Why a stale process may not be signalled. `earlier` is the same process in the look before;
/// `is_named`: a person has named it, and so vouches that it was superseded.
#[must_use]
pub fn of_process(
    service: &ServiceSight,
    earlier: Option<&Stale>,
    process: &Stale,
    signal: StopSignal,
    is_named: bool,
) -> Option<Hold> {
    let is_same = |earlier: &Stale| earlier.state == process.state && same_proof(earlier, process);
    let needed = &process.ending.needed;
    let guards = [
        (process.role == Role::Master).then_some(Hold::Master),
        process.is_init.then_some(Hold::Init),
        process.unread.map(Hold::Unread),
        (process.state == StaleState::Unknown).then_some(Hold::UnknownState),
        hides_a_socket(earlier, process, signal).then_some(Hold::HiddenSocket),
        (!earlier.is_some_and(is_same)).then_some(Hold::Unconfirmed),
        other_program(service, process),
        (process.tracer != 0).then_some(Hold::Traced(process.tracer)),
        (!needed.is_empty()).then(|| Hold::Needed(needed.clone())),
        (!has_handler(process, signal)).then_some(Hold::NoHandler),
        unproved(service, process, is_named),
    ];
    guards.into_iter().flatten().next()
}

/// One of its sockets was found in no table. A connection that was accepted or closed while the tables were
/// read is missing from one look only. The soft stop cuts no connection, so before it only a socket counts
/// that both looks miss.
fn hides_a_socket(earlier: Option<&Stale>, process: &Stale, signal: StopSignal) -> bool {
    let hidden = &process.ending.hidden_sockets;
    match earlier.filter(|_| signal == StopSignal::Usr1) {
        Some(earlier) => !hidden.is_disjoint(&earlier.ending.hidden_sockets),
        None => !hidden.is_empty(),
    }
}

fn same_proof(earlier: &Stale, process: &Stale) -> bool {
    let proof = |stale: &Stale| stale.superseded.map(|how| how.proof);
    proof(earlier) == proof(process)
}

/// The program of a serving process is another, or is not known.
fn other_program(service: &ServiceSight, process: &Stale) -> Option<Hold> {
    let own = process.executable.as_ref();
    let mut serving = service.serving.iter().map(|serving| serving.executable.as_ref());
    if service.serving.is_empty() || serving.any(|program| program.is_none()) {
        return Some(Hold::OtherProgram(None));
    }
    let mut serving = service.serving.iter().map(|serving| serving.executable.as_ref());
    let is_same = serving.all(|program| program == own);
    (!is_same).then(|| Hold::OtherProgram(own.cloned()))
}

/// HAProxy handles SIGUSR1 itself. Without a handler, as before HAProxy has installed it, the signal would end
/// the process. SIGTERM and SIGKILL are meant to do that, and HAProxy has a handler for neither.
fn has_handler(process: &Stale, signal: StopSignal) -> bool {
    signal != StopSignal::Usr1 || process.signals.caught & Signals::SIGUSR1 != 0
}

/// The proof that the process was superseded does not suffice.
fn unproved(service: &ServiceSight, process: &Stale, is_named: bool) -> Option<Hold> {
    let Some(how) = process.superseded else { return Some(Hold::NoProof) };
    if is_named {
        return None;
    }
    match how.proof {
        Proof::Master => None,
        Proof::Told => (!process.ending.has_common_ground).then_some(Hold::Stranger),
        Proof::Pidfile | Proof::Place => {
            (!service.came_by_reload).then_some(Hold::Inferred(how.proof))
        }
    }
}
