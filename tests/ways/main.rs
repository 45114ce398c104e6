//! The ways in which hosts run HAProxy: every row of `table/` on one host, each with its truth.
//!
//! Each row starts its services with the shell, reloads one of them, and asks the services
//! themselves which process answers. Three views are compared with these answers: an exporter that
//! watched from the beginning, one that was started between the starts and the reloads, and a fresh
//! `inspect`.
//!
//! The oldest and the newest version are run; `tests/ways/run` runs them all. `WAYS_VERSIONS` names
//! others, `WAYS=text` runs only the rows whose names contain the text, and `WAYS_TABLE=directory`
//! those of another table.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod compare;
mod host;
mod row;
mod truth;

use std::time::{Duration, Instant};

use support::*;

use compare::Wrong;
use host::Host;

#[test]
fn every_way() {
    let versions = versions();
    std::thread::scope(|scope| {
        for version in versions {
            scope.spawn(move || every_way_on(version));
        }
    });
}

/// Those that `WAYS_VERSIONS` names; else the oldest and the newest.
fn versions() -> Vec<Version> {
    let Ok(names) = std::env::var("WAYS_VERSIONS") else {
        let all = Version::ALL;
        return [all.first(), all.last()].into_iter().flatten().copied().collect();
    };
    let find = |name| Version::ALL.into_iter().find(|version| version.name() == name);
    let known = |name| find(name).unwrap_or_else(|| panic!("the tests have no HAProxy {name}"));
    names.split_whitespace().map(known).collect()
}

/// Anomalies fire after the grace of one second and two samples; before that the page may still change.
const SETTLING: Duration = Duration::from_secs(3);

/// How long every view may take to be right after the last reload.
const ALLOWED: Duration = Duration::from_secs(30);

fn every_way_on(version: Version) {
    let rows = row::table(version);
    let host = Host::new(version, &rows);
    let configuration = row::configuration(&rows, &host);
    let first = host.exporter(10101, &configuration);
    host.start_all();
    let mut wrong = settle(&host, &[("watching from before", &first)], "after the starts");
    let second = host.exporter(10102, &configuration);
    host.reload_all();
    let exporters = [("watching from before", &first), ("started in the middle", &second)];
    wrong.extend(settle(&host, &exporters, "after the reloads"));
    wrong.extend(host.failures());
    let count = rows.len();
    let name = version.name();
    assert!(wrong.is_empty(), "{name}: {} wrong in {count} ways:\n{}", wrong.len(), list(&wrong));
    println!("{count} ways right on {name}");
}

fn list(wrong: &[Wrong]) -> String {
    let mut lines: Vec<String> = wrong.iter().map(Wrong::to_string).collect();
    lines.sort();
    lines.join("\n")
}

/// Waits until every view is right twice in a row, and returns what is still wrong when the time is over.
fn settle(host: &Host, exporters: &[(&'static str, &Running)], phase: &'static str) -> Vec<Wrong> {
    std::thread::sleep(SETTLING);
    let deadline = Instant::now() + ALLOWED;
    let mut right = 0;
    loop {
        let wrong = look(host, exporters, phase);
        right = if wrong.is_empty() { right + 1 } else { 0 };
        eprintln!("{} {phase}: {} wrong", host.version.name(), wrong.len());
        if right == 2 || Instant::now() > deadline {
            return wrong;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn look(host: &Host, exporters: &[(&'static str, &Running)], phase: &'static str) -> Vec<Wrong> {
    let before = host.truth();
    let mut views: Vec<(&'static str, View)> = exporters
        .iter()
        .zip([10101, 10102])
        .map(|((name, exporter), port)| (*name, host.view(port, exporter)))
        .collect();
    views.push(("a fresh inspect", host.inspect()));
    // A row in which something ended or began to serve meanwhile has no truth that is that of the views.
    let after = host.truth();
    let mut wrong: Vec<Wrong> =
        before.changed(&after).map(|row| Wrong::unsettled(&row.way, phase)).collect();
    let before = before.unchanged(&after);
    let complete = wrong.is_empty() && !host.has_failures();
    for (name, view) in &views {
        wrong.extend(compare::with_truth(view, &before, complete, name, phase));
    }
    for (name, view) in &views[1..] {
        wrong.extend(compare::names(&views[0].1, view, &before, name, phase));
    }
    wrong
}
