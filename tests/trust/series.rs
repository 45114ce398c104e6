//! The part of a page that other users' processes may not change.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::*;

/// The series that differ from page to page on a quiet host too, or that count the newcomers.
const VARYING: [(&str, &str); 7] = [
    ("haproxy_host_haproxys", "counts the newcomers"),
    ("haproxy_host_sample_", "time and duration of the sample"),
    ("haproxy_host_resident_memory_bytes", "HAProxy allocates and frees"),
    ("haproxy_host_memory_available_bytes", "the memory of the host"),
    ("haproxy_host_pids_available", "the processes of the host"),
    ("haproxy_host_open_fds", "HAProxy opens and closes"),
    ("process_", "the exporter's own process"),
];

/// The series of a page that other users' processes may not change: those of `haproxys` and those
/// of no haproxy.
pub fn lasting(page: &Page, haproxys: &BTreeSet<String>) -> BTreeMap<String, f64> {
    let lasting = page.samples.iter().filter(|sample| {
        let owner = sample.labels.get("haproxy");
        owner.is_none_or(|name| haproxys.contains(name))
            && !VARYING.iter().any(|(name, _)| sample.name.starts_with(name))
    });
    let series = lasting.map(|sample| {
        let labels: Vec<_> = sample.labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        (format!("{}{{{}}}", sample.name, labels.join(",")), sample.value)
    });
    series.collect()
}

/// Prints which series are other ones: the test says only that some are.
pub fn report_difference(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (series, value) in before.iter().chain(now) {
        if before.get(series) != now.get(series) {
            eprintln!(
                "{series}: {:?} before, {:?} now ({value})",
                before.get(series),
                now.get(series)
            );
        }
    }
}
