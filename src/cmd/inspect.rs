//! `inspect`: the state of this host, once.

use std::io::Write;
use std::thread;
use std::time::Duration;

use super::{ANOMALIES, BLIND, Error, OK};
use crate::cli::{Inspect, Options, Output};
use crate::report;
use crate::watch::Watcher;

/// An anomaly must stand in two samples; this is the time between them.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);

/// Samples twice and tells.
pub fn run(options: &Options, inspect: &Inspect) -> Result<u8, Error> {
    let config = super::load(options.config_file.as_deref())?;
    let mut watcher = Watcher::new(super::paths(options), config)?;
    watcher.look();
    thread::sleep(BETWEEN_SAMPLES);
    let mut verdict = watcher.look();
    if let Some(name) = &inspect.haproxy {
        let names: Vec<_> = verdict.haproxys.iter().map(|h| h.name.clone()).collect();
        if !names.contains(name) {
            return Err(Error::UnknownHaproxy { name: name.clone(), names });
        }
        verdict.haproxys.retain(|haproxy| haproxy.name == *name);
    }
    let answer = match inspect.output {
        Output::Table | Output::Json => format!("{:#}\n", report::inspect_json(&verdict)),
    };
    std::io::stdout().write_all(answer.as_bytes())?;
    for entry in &verdict.unreadable {
        eprintln!("could not read {} of {}: {}", entry.what.as_str(), entry.subject, entry.reason);
    }
    Ok(if report::has_anomalies(&verdict, watcher.policy()) {
        ANOMALIES
    } else if verdict.unreadable.is_empty() {
        OK
    } else {
        BLIND
    })
}
