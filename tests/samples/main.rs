//! Every runbook about a kind shows what `inspect` says of it on a real host. This test stages each kind
//! beside a real HAProxy and compares the samples; with `UPDATE_SAMPLES=1` it writes them instead.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod kinds;
mod runbook;
mod sample;
mod stage;

use std::collections::BTreeSet;

use haproxy_host_exporter::policy::kind::Kind;

#[test]
fn every_runbook_shows_what_inspect_says() {
    let staged: BTreeSet<&str> = kinds::ALL.iter().map(|(kind, _)| *kind).collect();
    let kinds: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(staged, kinds, "every kind is staged once");
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let threads: Vec<_> = kinds::ALL
            .iter()
            .map(|(kind, scene)| (*kind, scope.spawn(move || runbook::hold(kind, &scene(kind)))))
            .collect();
        threads
            .into_iter()
            .filter_map(|(kind, thread)| thread.join().is_err().then_some(kind))
            .collect()
    });
    assert!(failed.is_empty(), "{failed:?}: see above; UPDATE_SAMPLES=1 writes the samples anew");
}
