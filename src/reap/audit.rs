//! What is recorded of each signal: a line before it with the intent and its evidence, and a line after it
//! with the outcome.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::effect::{Awaited, Seen, port_name};
use super::plan::Step;
use super::sight::Stale;
use crate::model::UnixSeconds;

/// The line before a signal.
#[must_use]
pub fn intent(service: &str, step: &Step, now: UnixSeconds) -> Value {
    let superseded = step
        .superseded
        .map(|how| json!({"by": how.by.pid, "proof": how.proof.as_str(), "timestamp": how.since}));
    json!({
        "event": "intent",
        "timestamp": now,
        "haproxy": service,
        "pid": step.id.pid,
        "start_ticks": step.id.start_ticks,
        "signal": step.signal.as_str(),
        "state": step.state.as_str(),
        "reason": step.why,
        "superseded": superseded,
        "ports": step.ports.iter().map(port_name).collect::<Vec<_>>(),
        "connections": connections(step.clients.connections.as_ref()),
        "peers": step.clients.peers,
    })
}

/// The line after a signal. `process`: what is left of the process.
#[must_use]
pub fn outcome(
    awaited: &Awaited,
    seen: &Seen,
    given_back: &BTreeSet<String>,
    process: Option<&Stale>,
    now: UnixSeconds,
) -> Value {
    json!({
        "event": "outcome",
        "timestamp": now,
        "haproxy": awaited.service,
        "pid": awaited.pid,
        "start_ticks": awaited.start_ticks,
        "signal": awaited.signal.as_str(),
        "result": seen.effect.as_str(),
        "released": seen.released,
        "given_back": given_back,
        "connections": connections(process.and_then(|process| process.connections.as_ref())),
    })
}

/// The line after a signal that could not be sent.
#[must_use]
pub fn refused(awaited: &Awaited, why: &str, now: UnixSeconds) -> Value {
    json!({
        "event": "outcome",
        "timestamp": now,
        "haproxy": awaited.service,
        "pid": awaited.pid,
        "start_ticks": awaited.start_ticks,
        "signal": awaited.signal.as_str(),
        "result": super::effect::Effect::Refused.as_str(),
        "reason": why,
    })
}

/// The connections by state; null if they are not known.
#[must_use]
pub fn connections(counts: Option<&crate::judge::verdict::ConnectionCounts>) -> Value {
    counts.map_or(Value::Null, |counts| {
        counts.named().into_iter().map(|(state, count)| (state.to_owned(), json!(count))).collect()
    })
}
