//! The ways in which hosts run HAProxy: every row of `table/` on one host, each with its truth.
//!
//! Each row starts its services with the shell, reloads one of them, and asks the services
//! themselves which process answers. Three views are compared with these answers: an exporter that
//! watched from the beginning, one that was started between the starts and the reloads, and a fresh
//! `inspect`. `WAYS=text` runs only the rows whose names contain the text,
//! `WAYS_TABLE=directory` those of another table.
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

for_each_version! {
    every_way => every_way;
}

/// Anomalies fire after the grace of one second and two samples; before that the page may still change.
const SETTLING: Duration = Duration::from_secs(3);

/// How long every view may take to be right after the last reload.
const ALLOWED: Duration = Duration::from_secs(30);

fn every_way(version: Version) {
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
    assert!(wrong.is_empty(), "{} wrong in {count} ways:\n{}", wrong.len(), list(&wrong));
    println!("{count} ways right on {}", version.name());
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
        eprintln!("{phase}: {} wrong", wrong.len());
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
