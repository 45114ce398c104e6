//! Processes that should not be there, or not in this state.

use std::fs;

use super::proxies::{WAITING_ROOM, something_down, something_wrong, stale};
use crate::support::*;

for_each_version! {
    idle => idle;
    zombies => zombies;
    orphaned_worker => orphaned_worker;
    pidfile_of_a_daemon => |version| pidfile(version, Manner::Daemon);
    pidfile_of_a_master => |version| pidfile(version, Manner::Master);
}

/// Neither listener nor connection, and yet alive.
fn idle(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let (old, flow) = scenes::stop_while_draining(&bed, &service);
    exporter.await_page("one draining", |page| page.stale("draining") == 1.0);
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);

    flow.reset();
    exporter.await_page("one idle", |page| {
        page.stale("idle") == 1.0 && page.anomalies_are(&["process_idle"])
    });
    bed.kill("CONT", old);
    exporter.await_page("its end", |page| page.anomalies_are(&[]) && stale(page) == 0.0);
    recorder.never("a haproxy down", something_down);
}

/// No process reaps: as in a container whose pid 1 was not written to be one.
fn zombies(version: Version) {
    let bed = Bed::without_reaper();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let exporter = Exporter::start(&bed);
    scenes::leave_two_zombies(&bed, &service);
    let page = exporter.await_page("the zombies", |page| {
        page.anomalies_are(&["process_zombie"]) && page.stale("zombie") == 2.0
    });
    assert_eq!(page.haproxys().len(), 1, "{}", page.brief());
    let holders = page.label_values("haproxy_host_anomaly_info", "holder");
    assert_eq!(holders.into_iter().collect::<Vec<_>>(), ["sleep"]);
    assert_eq!(page.value("haproxy_host_up", &[]), Some(1.0));
}

/// The master was killed and the worker cannot notice.
fn orphaned_worker(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Master);
    service.configure(WAITING_ROOM).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    let worker = scenes::orphan_the_worker(&bed, &service);
    exporter.await_page("the orphan", |page| page.anomalies().contains("process_orphan"));
    bed.kill("CONT", worker);
    exporter.await_page("its end", |page| {
        page.anomalies_are(&[]) && page.is("haproxy_host_up", &[], 0.0)
    });
}

/// A pidfile that names another; one that is empty or gone says nothing.
fn pidfile(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(WAITING_ROOM);
    service.start();
    let right = fs::read_to_string(service.pidfile()).unwrap();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(7);
    fs::write(service.pidfile(), "").unwrap();
    exporter.await_samples(7);
    fs::remove_file(service.pidfile()).unwrap();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);

    fs::write(service.pidfile(), "1\n").unwrap();
    exporter.await_page("the mismatch", |page| page.anomalies_are(&["pidfile_mismatch"]));
    fs::write(service.pidfile(), right).unwrap();
    exporter.await_page("its end", |page| page.anomalies_are(&[]));
    recorder.never("a haproxy down", something_down);
    recorder.never("a stale process", |page| stale(page) > 0.0);
}

/// A package upgrade replaced the file that runs.
#[test]
fn binary_outdated() {
    let bed = Bed::new();
    let mut service = Service::new(&bed, Version::V3_2, Manner::Master);
    service.binary = bed.directory().join("haproxy");
    copy_program(Version::V3_2.binary(), &service.binary);
    service.configure(WAITING_ROOM);
    service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    scenes::replace_the_binary(&bed, &service);
    exporter.await_page("the old binary", |page| page.anomalies_are(&["binary_outdated"]));
    recorder.never("a haproxy down", something_down);
    recorder.never("a second haproxy", |page| page.haproxys().len() != 1);
}
