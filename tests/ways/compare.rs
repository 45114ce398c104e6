//! Where a view differs from the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::support::{Raised, View};
use crate::truth::{RowTruth, ServiceTruth, Truth};

/// One difference.
#[derive(Debug)]
pub struct Wrong {
    way: String,
    phase: String,
    view: String,
    what: String,
}

impl Wrong {
    pub fn new(way: &str, phase: &str, view: &str, what: String) -> Self {
        Self { way: way.to_owned(), phase: phase.to_owned(), view: view.to_owned(), what }
    }

    /// The row changed while it was looked at.
    pub fn unsettled(way: &str, phase: &str) -> Self {
        Self::new(way, phase, "-", "does not come to rest".to_owned())
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {} | {}", self.way, self.phase, self.view, self.what)
    }
}

/// Compares one view with the truth. Only a `complete` one shows which services there are not.
pub fn with_truth(
    view: &View,
    truth: &Truth,
    complete: bool,
    name: &str,
    phase: &str,
) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for row in &truth.rows {
        let mut say = |what: String| wrong.push(Wrong::new(&row.way, phase, name, what));
        for (index, service) in row.services.iter().enumerate() {
            for what in one_service(view, service) {
                say(format!("service {index}: {what}"));
            }
            let Some(found) = service_name(view, service) else { continue };
            let place = format!("{} service {index}", row.way);
            if let Some(other) = names.insert(found, place) {
                say(format!("service {index}: is called {found} like {other}"));
            }
        }
        for what in anomalies(view, row) {
            say(what);
        }
    }
    for (found, seen) in
        view.services.iter().filter(|(found, _)| complete && !names.contains_key(&***found))
    {
        let mut about: Vec<String> = seen.pids.iter().map(|pid| process(view, *pid)).collect();
        about.extend(
            seen.anomalies.iter().map(|(kind, raised)| format!("{kind}: {}", raised.evidence)),
        );
        let what = format!("there is no service {found:?} (up {}): {}", seen.up, about.join(", "));
        wrong.push(Wrong::new("(no way)", phase, name, what));
    }
    let excused = |entry: &String| {
        truth.rows.iter().flat_map(|row| &row.unreadable).any(|text| entry.contains(text.as_str()))
    };
    for entry in view.unreadable.iter().filter(|entry| !excused(entry)) {
        wrong.push(Wrong::new("(no way)", phase, name, format!("unreadable: {entry}")));
    }
    wrong
}

/// Compares the names in two views.
pub fn names(one: &View, other: &View, truth: &Truth, name: &str, phase: &str) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for row in &truth.rows {
        for (index, service) in row.services.iter().enumerate() {
            let (one, other) = (service_name(one, service), service_name(other, service));
            if one != other {
                let what = format!("service {index}: {other:?} is {one:?} to the first exporter");
                wrong.push(Wrong::new(&row.way, phase, name, what));
            }
        }
    }
    wrong
}

fn service_name<'v>(view: &'v View, service: &ServiceTruth) -> Option<&'v str> {
    let pids = service.serving.iter().chain(service.old.keys()).chain(service.masters.keys());
    pids.filter_map(|pid| view.processes.get(pid)).map(|seen| &*seen.service).next()
}

fn one_service(view: &View, service: &ServiceTruth) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = service_name(view, service);
    if let (Some(wanted), Some(name)) = (&service.name, name)
        && wanted != name
    {
        wrong.push(format!("is called {name}, not {wanted}"));
    }
    let known = |pid: i32, wrong: &mut Vec<String>| {
        let seen = view.processes.get(&pid);
        match seen {
            None => wrong.push(format!("pid {pid} is not seen")),
            Some(seen) if Some(&*seen.service) != name => {
                wrong.push(format!("pid {pid} belongs to {}, not to {name:?}", seen.service));
            }
            Some(_) => {}
        }
        seen
    };
    if let Some(pid) = service.serving
        && let Some(seen) = known(pid, &mut wrong)
    {
        if seen.generation != "current" || seen.role == "master" {
            wrong.push(format!("serves: {}", process(view, pid)));
        }
        if !view.services[&seen.service].up {
            wrong.push(format!("pid {pid} serves and {} is down", seen.service));
        }
    }
    for (&pid, &current) in &service.masters {
        if let Some(seen) = known(pid, &mut wrong) {
            let generation = if current { "current" } else { "stale" };
            if seen.role != "master" || seen.generation != generation {
                wrong.push(format!("a {generation} master: {}", process(view, pid)));
            }
        }
    }
    for (&pid, states) in &service.old {
        let Some(seen) = known(pid, &mut wrong) else { continue };
        if service.down {
            if view.services[&seen.service].up {
                wrong.push(format!("nothing of it serves and {} is up", seen.service));
            }
        } else if seen.generation != "stale" || !states.contains(&seen.state) {
            wrong.push(format!("stale, {}: {}", states.join(" or "), process(view, pid)));
        }
    }
    let Some(seen) = name.and_then(|name| view.services.get(name)) else { return wrong };
    for pid in &seen.pids {
        let known = service.serving == Some(*pid)
            || service.masters.contains_key(pid)
            || service.old.contains_key(pid);
        // Of a zombie nothing shows which row it belongs to: a row with one requires `process_zombie`.
        let dead = view.processes.get(pid).is_some_and(|seen| seen.state == "zombie");
        if !known && !dead {
            wrong.push(format!("counted besides: {}", process(view, *pid)));
        }
    }
    wrong
}

fn anomalies(view: &View, row: &RowTruth) -> Vec<String> {
    let mut found: BTreeMap<&str, &Raised> = BTreeMap::new();
    for name in row.services.iter().filter_map(|service| service_name(view, service)) {
        let seen = &view.services[name].anomalies;
        found.extend(seen.iter().map(|(kind, raised)| (&**kind, raised)));
    }
    let kinds: BTreeSet<&str> = found.keys().copied().collect();
    let missing = row.required.iter().filter(|kind| !kinds.contains(&***kind));
    let mut wrong: Vec<String> = missing.map(|kind| format!("no {kind}")).collect();
    for (kind, raised) in found {
        if !row.required.contains(kind) && !row.tolerated.contains(kind) {
            let state = if raised.pending { "pending" } else { "firing" };
            wrong.push(format!("{kind} is {state}, which nothing justifies: {}", raised.evidence));
        }
    }
    wrong
}

fn process(view: &View, pid: i32) -> String {
    view.processes.get(&pid).map_or_else(String::new, |seen| {
        format!("pid {pid} is {} {} {} of {}", seen.role, seen.generation, seen.state, seen.service)
    })
}
