//! Where the picture that the exporter gives differs from the processes that answered.

use crate::actor::Actor;
use crate::epoch::{Epoch, GRACE};
use crate::support::{Bed, View};
use crate::tally::{Fault, Tally};
use crate::truth::{Generation, Truth};

/// A sample taken this long after a process was first seen to answer shows it as serving: samples
/// take time, and what they read is older than their end.
const NOTICED: f64 = 1.5;

/// One view and what is known about it.
pub struct Look<'l> {
    pub view: &'l View,
    /// The exporter that gave it; `None`: it is of a fresh `inspect`.
    pub epoch: Option<&'l Epoch>,
    /// Which processes answered before and after the view was taken.
    pub before: &'l [Option<i32>],
    pub after: &'l [Option<i32>],
    /// When the last sample but one was taken; of a fresh `inspect`, when it was started.
    pub settled: f64,
}

/// Compares a view with the truth and counts what is wrong.
pub fn compare(look: &Look<'_>, actors: &[Actor<'_>], truth: &Truth, bed: &Bed, tally: &Tally) {
    tally.viewed(look.epoch.is_none());
    let mut count = 0;
    for (index, actor) in actors.iter().enumerate() {
        let generations = truth.generations(index);
        let say = |fault, what: String| {
            let who = if look.epoch.is_none() { "inspect" } else { "serve" };
            let text = format!("{} at {:.1}: {who}: {what}", actor.title(), look.view.taken);
            tally.wrong(fault, text);
        };
        let serving = look.before[index].filter(|pid| look.after[index] == Some(*pid));
        let known = |pid| generations.iter().find(|generation| generation.pid == pid);
        if let Some(serving) = serving.and_then(known) {
            count += 1;
            serves(look, serving, &say);
            justified(look, serving.pid, actor, &say);
        }
        // Of thousands most have ended; what follows looks into the tables of each.
        let living = generations.iter().enumerate().filter(|(_, old)| bed.is_alive(old.pid));
        for (place, old) in living {
            let next = generations.get(place + 1);
            // Only an exporter that saw both serve was shown what the successor was told.
            let watched = look.epoch.is_some_and(|epoch| {
                epoch.since < old.first
                    && next.is_some_and(|next| {
                        epoch.saw_serving(index, next.pid) && actor.told(old.pid, next.pid)
                    })
            });
            // A reload that fails may answer for a moment, and leaves the older process to serve.
            let mut later = generations.iter().skip(place + 1).map(|next| next.pid);
            if bed.listens(old.pid) && !later.clone().any(|pid| bed.is_alive(pid)) {
                continue;
            }
            // While nothing serves, only one that saw a successor serve can distinguish what drains from what starts.
            let saw_successor =
                look.epoch.is_some_and(|epoch| later.any(|pid| epoch.saw_serving(index, pid)));
            if serving.is_none() && !saw_successor {
                continue;
            }
            count += usize::from(stale(look, old, (watched, serving), actor, bed, &say));
        }
    }
    for (&pid, seen) in look.view.processes.iter().filter(|(_, seen)| seen.state == "idle") {
        if bed.connections(pid) > 0 {
            let what = format!("pid {pid} of {} is called idle and has connections", seen.service);
            tally.wrong(Fault::FalseIdle, what);
        }
    }
    tally.compared(count);
}

fn serves(look: &Look<'_>, serving: &Generation, say: &impl Fn(Fault, String)) {
    let (pid, first) = (serving.pid, serving.first);
    let noticed = look.view.taken > first + NOTICED;
    let Some(seen) = look.view.processes.get(&pid) else {
        if noticed {
            say(Fault::Late, format!("pid {pid}, serving since {first:.1}, is not there"));
        }
        return;
    };
    // The sample may have begun before it served.
    if look.view.taken < first + 0.1 {
        return;
    }
    if seen.generation == "stale" {
        let cast = cast(look.view, &seen.service);
        say(Fault::FalseStale, format!("pid {pid} serves and is stale, {}; {cast}", seen.state));
    } else if seen.generation != "current" && noticed {
        say(Fault::Late, format!("pid {pid} serves since {first:.1} and is {}", seen.generation));
    }
    if !look.view.services[&seen.service].up && noticed {
        say(Fault::FalseDown, format!("{} is down and pid {pid} serves", seen.service));
    }
}

/// Is a process that was replaced called stale in time? False when there is nothing to compare.
fn stale(
    look: &Look<'_>,
    old: &Generation,
    (watched, serving): (bool, Option<i32>),
    actor: &Actor<'_>,
    bed: &Bed,
    say: &impl Fn(Fault, String),
) -> bool {
    let replaced = old.replaced.unwrap_or(f64::INFINITY);
    if look.settled < replaced + GRACE || !bed.is_alive(old.pid) {
        return false;
    }
    match look.view.processes.get(&old.pid) {
        Some(seen) if seen.generation == "stale" => {
            let right = match &*seen.proof {
                "master" => actor.mode.is_master(),
                "told" => !actor.mode.is_master(),
                "pidfile" | "place" => !actor.mode.is_master() && !watched,
                _ => false,
            };
            if !right {
                say(
                    Fault::Proof,
                    format!("pid {} was superseded by proof {:?}", old.pid, seen.proof),
                );
            }
        }
        seen => {
            let since = look.view.taken - replaced;
            let own = seen.map(|seen| cast(look.view, &seen.service));
            let serving = serving.and_then(|pid| look.view.processes.get(&pid));
            let service = serving.map(|seen| cast(look.view, &seen.service));
            say(
                Fault::MissedStale,
                format!(
                    "pid {}, {}, replaced for {since:.1} s, in {own:?}; {service:?} serves; {}",
                    old.pid,
                    if bed.listens(old.pid) { "listening" } else { "not listening" },
                    actor.recent(),
                ),
            );
        }
    }
    true
}

fn justified(look: &Look<'_>, pid: i32, actor: &Actor<'_>, say: &impl Fn(Fault, String)) {
    let Some(seen) = look.view.processes.get(&pid) else { return };
    for (kind, raised) in &look.view.services[&seen.service].anomalies {
        // Up to 3.0, a reload that waited for a port may lose the others.
        let is_true = || kind == "port_missing" && actor.refuses(&raised.ports);
        if !raised.pending && !actor.justifies(kind, look.view.taken) && !is_true() {
            let cast = cast(look.view, &seen.service);
            let what = format!(
                "{kind} {:?}: {}; {cast}; {}",
                raised.ports,
                raised.evidence,
                actor.recent()
            );
            say(Fault::Unjustified, what);
        }
    }
}

/// The processes of a service in a view.
fn cast(view: &View, service: &str) -> String {
    let own = view.processes.iter().filter(|(_, seen)| seen.service == service);
    let cast =
        own.map(|(pid, seen)| format!("{pid} {} {} {}", seen.role, seen.generation, seen.state));
    format!("{service}: {}", cast.collect::<Vec<_>>().join(", "))
}
