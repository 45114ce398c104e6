//! What rules rely on, on every page.

use std::collections::BTreeSet;

use haproxy_host_exporter::policy::kind::Kind;

use super::proxies::{WAITING_ROOM, something_wrong};
use crate::support::*;

const OBSERVED: &str = "haproxy_host_anomalies_observed_total";

/// A counter that appears with its first count cannot be seen to grow: each is at 0 before.
#[test]
fn anomalies_are_counted_from_zero() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure(WAITING_ROOM).start();
    let exporter = Exporter::start(&bed);
    let kinds: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    let page = exporter.await_page("every kind judged", |page| {
        page.label_values("haproxy_host_anomalies", "kind") == kinds
    });
    assert_eq!(page.label_values(OBSERVED, "kind"), kinds);
    assert_eq!(page.sum(OBSERVED, &[]), 0.0, "{}", page.brief());
}

/// What was counted stays counted when the haproxy it was counted for is gone.
#[test]
fn counters_outlive_the_haproxy() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    service.configure(WAITING_ROOM);
    let pid = service.start();
    let yaml = format!(
        "defaults: {{stale_grace: 1s}}\nhaproxys: [{{name: lb, match: {{pidfile: {}}}}}]\n",
        service.pidfile().display()
    );
    let exporter = Exporter::configured(&bed, &yaml);
    let before = exporter.await_samples(3).label_values(OBSERVED, "kind");
    bed.kill("KILL", pid);
    let page = exporter.await_page("it down", |page| page.is("haproxy_host_up", &[], 0.0));
    assert!(page.label_values(OBSERVED, "kind").is_superset(&before), "{}", page.brief());
}

/// Processes that end while they are being read do not count as unreadable, however many there are.
#[test]
fn a_process_that_vanishes_is_not_unreadable() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let binary = service.binary.display();
    let churn: Vec<Running> = (0..3)
        .map(|number| {
            let mut command = bed.command("sh");
            command.args(["-c", &format!("while :; do {binary} -v; sleep 0.01; done")]);
            bed.start(command, &format!("churn-{number}.log"))
        })
        .collect();
    exporter.await_samples(40);
    recorder.never("something unreadable", |page| page.sum("haproxy_host_unreadable", &[]) > 0.0);
    recorder.never("a failed collector", |page| {
        page.all("haproxy_host_sample_success", &[]).any(|success| success.value < 1.0)
    });
    recorder.never("an anomaly", something_wrong);
    drop(churn);
}
