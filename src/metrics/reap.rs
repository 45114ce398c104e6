//! The series about `reap`, from its state file.

use super::catalogue as row;
use super::families::{Families, number};
use crate::judge::verdict::StaleState;
use crate::policy::reap::StopSignal;
use crate::reap::effect::Effect;
use crate::reap::state::{Counters, State, StepCount};

/// The most services of which there are series. Any user can start many.
const MOST_SERVICES: usize = 100;

/// Adds the series of a state.
pub fn add(page: &mut Families, state: &State) {
    for (name, counters) in state.haproxys.iter().take(MOST_SERVICES) {
        for (signal, state, effect) in possible() {
            let labels = [name, signal.as_str(), state.as_str(), effect.as_str()];
            page.add(&row::REAP_STEPS, &labels, number(count(counters, &labels)));
        }
        page.add(&row::REAP_PORTS_RELEASED, &[name], number(counters.ports_released));
        page.add(&row::REAP_PENDING, &[name], number(counters.pending));
    }
    if let Some(run) = state.last_run {
        page.add(&row::REAP_LAST_RUN_TIMESTAMP, &[], run.timestamp);
        page.add(&row::REAP_LAST_RUN_SUCCESS, &[], f64::from(run.success));
    }
}

/// The steps that can occur. Each has a series from the beginning, so that its first increase shows.
fn possible() -> impl Iterator<Item = (StopSignal, StaleState, Effect)> {
    let states = [StaleState::Listening, StaleState::Idle, StaleState::Draining];
    let steps = StopSignal::ALL
        .into_iter()
        .flat_map(move |signal| states.into_iter().map(move |state| (signal, state)));
    // Only SIGUSR1 goes to a process that listens, and only such a process has listeners to release.
    let can_be = |(signal, state): &(StopSignal, StaleState)| {
        *signal == StopSignal::Usr1 || *state != StaleState::Listening
    };
    steps.filter(can_be).flat_map(|(signal, state)| {
        let effects = Effect::ALL.into_iter();
        effects
            .filter(move |effect| *effect != Effect::Drains || state == StaleState::Listening)
            .map(move |effect| (signal, state, effect))
    })
}

fn count(counters: &Counters, [_, signal, state, effect]: &[&str; 4]) -> u64 {
    let is_same = |step: &&StepCount| {
        step.signal.as_str() == *signal && step.state == *state && step.result == *effect
    };
    counters.steps.iter().find(is_same).map_or(0, |step| step.count)
}
