//! What `reap` plans and what came of it, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::hold::because;
use super::json::unreadable_json;
use super::ranges::in_words;
use super::text::{self, Paint, Tint, age, counted};
use crate::haproxy::lineage::proof::Proof;
use crate::judge::verdict::{ConnectionCounts, StaleState};
use crate::model::{ProcessId, Unreadable};
use crate::policy::reap::StopSignal;
use crate::reap::audit::connections as connections_json;
use crate::reap::effect::{Effect, port_name};
use crate::reap::guards::Hold;
use crate::reap::plan::{Clients, Held, Plan, ServicePlan, Step, Waiting};

/// What came of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// The process.
    pub id: ProcessId,
    /// What came of the signal, or why it was not sent after all.
    pub outcome: Result<Effect, Hold>,
    /// The ports that the process released.
    pub released: BTreeSet<String>,
    /// The released ports that no process of the service holds any more, each with whether it can be bound.
    pub given_back: Vec<(String, Bindable)>,
    /// The connections that are left, if they are known.
    pub left: Option<ConnectionCounts>,
}

/// Whether a port that was given back can be bound now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bindable {
    /// Nothing is in the way.
    Yes,
    /// Something else holds it.
    No,
    /// That could not be seen.
    Unknown,
}

impl Bindable {
    fn words(self) -> &'static str {
        match self {
            Bindable::Yes => "can be bound",
            Bindable::No => "still held by something else (inspect --port)",
            Bindable::Unknown => "it is not known whether it can be bound",
        }
    }

    fn value(self) -> Value {
        match self {
            Bindable::Yes => json!(true),
            Bindable::No => json!(false),
            Bindable::Unknown => Value::Null,
        }
    }
}

/// The width of the words before the facts of a step.
const MARK: usize = 9;

/// The plan as text, of this many columns.
#[must_use]
pub fn plan_text(plan: &Plan, executes: bool, paint: Paint, width: usize) -> String {
    if plan.services.is_empty() {
        return "nothing to look at: no HAProxy here has a `reap` section in the configuration; name one with \
                --haproxy\n"
            .to_owned();
    }
    let services = plan.services.iter();
    services.map(|service| service_text(service, executes, paint, width)).collect()
}

fn service_text(plan: &ServicePlan, executes: bool, paint: Paint, width: usize) -> String {
    let mut parts = Vec::new();
    let mut add = |count: usize, words: &str| {
        if count > 0 {
            parts.push(format!("{count} {words}"));
        }
    };
    add(plan.steps.len(), if executes { "to signal" } else { "to signal with --execute" });
    add(plan.held.len(), "held back");
    add(plan.waiting.len(), "left to finish");
    add(plan.zombies.len(), "dead and not removed by the parent");
    let summary =
        if parts.is_empty() { "nothing left to end".to_owned() } else { parts.join(", ") };
    let name = paint.tint(Tint::Head, &text::printable(&plan.name));
    let mut words = format!("{name}: {summary}\n");
    for step in &plan.steps {
        step_text(&mut words, step, paint, width);
    }
    for held in &plan.held {
        held_text(&mut words, held, paint, width);
    }
    for Waiting { id, state, why } in &plan.waiting {
        let line = format!("pid {} ({}): {why}", id.pid, state.as_str());
        text::lines(&mut words, "  ", &line, width);
    }
    for (pid, parent) in &plan.zombies {
        let line = format!(
            "pid {pid} (zombie): it is dead; its parent, pid {parent}, has to remove it, or to be restarted"
        );
        text::lines(&mut words, "  ", &line, width);
    }
    words
}

fn step_text(words: &mut String, step: &Step, paint: Paint, width: usize) {
    let title =
        format!("SIG{} to pid {} ({})", step.signal.as_str(), step.id.pid, step.state.as_str());
    let _ = writeln!(words, "  {}", paint.tint(Tint::Poor, &title));
    let mut fact = |mark: &str, fact: &str| {
        text::lines(words, &format!("    {mark:MARK$}"), fact, width);
    };
    fact("why", &step.why);
    if let Some(how) = step.superseded {
        fact("proof", &proof(how.proof, how.by.pid));
    }
    if !step.ports.is_empty() {
        fact("frees", &in_words(&step.ports));
    }
    fact("cuts", &cuts(step.signal, step.state, &step.clients));
    if let Some(ends) = &step.ends_itself {
        fact("HAProxy", &format!("would end it by itself: {ends}"));
    }
}

fn held_text(words: &mut String, held: &Held, paint: Paint, width: usize) {
    let title = format!("pid {} ({}) is held back", held.id.pid, held.state.as_str());
    let _ = writeln!(words, "  {}", paint.tint(Tint::Plain, &title));
    let mut fact = |mark: &str, fact: &str| {
        text::lines(words, &format!("    {mark:MARK$}"), fact, width);
    };
    if let Some(signal) = held.signal {
        fact("due", &format!("SIG{}: {}", signal.as_str(), held.why));
    }
    fact("because", &because(&held.hold));
    if let Some(advice) = by_hand(&held.hold, held.id.pid) {
        fact("by hand", &advice);
    }
}

/// What a person may do where `reap` does nothing.
fn by_hand(hold: &Hold, pid: i32) -> Option<String> {
    match hold {
        Hold::NotUp(_) => Some(
            "start HAProxy first (inspect says what blocks it); end this process only if it blocks the start \
             and its clients may be cut"
                .to_owned(),
        ),
        Hold::IgnoresSoftStop => {
            Some(format!("look why it does not react (inspect); kill -TERM {pid} cuts its clients"))
        }
        Hold::LastSignal(_) => Some(format!("kill -KILL {pid}, if nothing of it is needed")),
        Hold::MissingRight => Some("run reap as root, or with CAP_KILL".to_owned()),
        Hold::Off(path) => Some(format!("remove {} to switch it on", path.display())),
        _ => None,
    }
}

/// What proves that a process was superseded, in words.
fn proof(proof: Proof, by: i32) -> String {
    match proof {
        Proof::Told => format!("told: pid {by} was started with its pid after -sf or -st"),
        Proof::Master => format!("master: its master has started pid {by} in its stead"),
        Proof::Pidfile => format!("pidfile: pid {by}, started later, was given the same pidfile"),
        Proof::Place => {
            format!(
                "place: pid {by} was started later at the same place, after the configuration changed"
            )
        }
    }
}

/// What a signal cuts.
fn cuts(signal: StopSignal, state: StaleState, clients: &Clients) -> String {
    let known = clients.connections.map(|counts| counts.total());
    if state == StaleState::Idle || known == Some(0) {
        return "nothing: it has no client".to_owned();
    }
    let Some(count) = known else {
        return match signal {
            StopSignal::Usr1 => "nothing: SIGUSR1 lets its clients finish".to_owned(),
            _ => "an unknown number of connections".to_owned(),
        };
    };
    let connections = counted(count, "connection", "connections");
    let peers =
        clients.peers.map(|peers| format!(" of {}", counted(peers, "address", "addresses")));
    let peers = peers.unwrap_or_default();
    if signal == StopSignal::Usr1 {
        return format!("nothing: SIGUSR1 lets its {connections}{peers} finish");
    }
    let least =
        clients.least_age_seconds.map(|seconds| format!(", each older than {}", age(seconds)));
    format!("{connections}{peers}{}", least.unwrap_or_default())
}

/// What came of one step, as text.
#[must_use]
pub fn result_text(step: &Step, result: &StepResult, width: usize) -> String {
    let mut words = String::new();
    let head = format!("SIG{} to pid {}", step.signal.as_str(), step.id.pid);
    let line = match &result.outcome {
        Ok(Effect::Ended) => format!("{head}: it has ended"),
        Ok(Effect::Drains) => format!("{head}: it has let go of its listeners{}", drains(result)),
        Ok(Effect::Unchanged) => format!("{head}: nothing has changed yet"),
        Ok(Effect::Refused) => format!("{head}: the kernel refused"),
        Err(hold) => format!("{head}: not sent, because {}", because(hold)),
    };
    text::lines(&mut words, "  ", &line, width);
    for (port, bindable) in &result.given_back {
        text::lines(&mut words, "    ", &format!("{port}: {}", bindable.words()), width);
    }
    words
}

fn drains(result: &StepResult) -> String {
    match result.left.map(|left| left.total()) {
        Some(0) => " and has no client left".to_owned(),
        Some(count) => format!("; {} may finish", counted(count, "connection", "connections")),
        None => String::new(),
    }
}

/// The plan and what came of it, for programs.
#[must_use]
pub fn json(plan: &Plan, results: Option<&[StepResult]>, unreadable: &[Unreadable]) -> Value {
    let services = plan.services.iter().map(|service| {
        json!({
            "name": service.name,
            "steps": service.steps.iter().map(|step| step_json(step, results)).collect::<Vec<_>>(),
            "held": service.held.iter().map(held_json).collect::<Vec<_>>(),
            "waiting": service.waiting.iter().map(waiting_json).collect::<Vec<_>>(),
            "zombies": service.zombies.iter().map(|(pid, parent)| json!({"pid": pid, "parent": parent}))
                .collect::<Vec<_>>(),
        })
    });
    json!({
        "version": 1,
        "executed": results.is_some(),
        "haproxys": services.collect::<Vec<_>>(),
        "unreadable": unreadable.iter().map(unreadable_json).collect::<Vec<_>>(),
    })
}

fn step_json(step: &Step, results: Option<&[StepResult]>) -> Value {
    let result = results.and_then(|results| results.iter().find(|result| result.id == step.id));
    let superseded = step
        .superseded
        .map(|how| json!({"by": how.by.pid, "proof": how.proof.as_str(), "timestamp": how.since}));
    let mut value = json!({
        "pid": step.id.pid,
        "signal": step.signal.as_str(),
        "state": step.state.as_str(),
        "reason": step.why,
        "superseded": superseded,
        "ports": step.ports.iter().map(port_name).collect::<Vec<_>>(),
        "connections": connections_json(step.clients.connections.as_ref()),
        "peers": step.clients.peers,
        "least_age_seconds": step.clients.least_age_seconds,
        "ends_itself": step.ends_itself,
    });
    if let (Some(result), Some(value)) = (result, value.as_object_mut()) {
        match &result.outcome {
            Ok(effect) => drop(value.insert("result".to_owned(), json!(effect.as_str()))),
            Err(hold) => drop(value.insert("hold".to_owned(), json!(hold.code()))),
        }
        let given_back = result
            .given_back
            .iter()
            .map(|(port, bindable)| json!({"port": port, "bindable": bindable.value()}));
        value.insert("released".to_owned(), json!(result.released));
        value.insert("given_back".to_owned(), given_back.collect());
        value.insert("connections_left".to_owned(), connections_json(result.left.as_ref()));
    }
    value
}

fn held_json(held: &Held) -> Value {
    json!({
        "pid": held.id.pid,
        "state": held.state.as_str(),
        "signal": held.signal.map(StopSignal::as_str),
        "reason": held.why,
        "hold": held.hold.code(),
        "because": because(&held.hold),
    })
}

fn waiting_json(waiting: &Waiting) -> Value {
    json!({"pid": waiting.id.pid, "state": waiting.state.as_str(), "reason": waiting.why})
}
