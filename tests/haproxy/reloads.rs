//! Reloads that fail, that take long, and processes that are still starting.

use super::gate::Gate;
use super::proxies::{
    BROKEN, WAITING_ROOM, WAITING_ROOM_ADDRESS, something_down, something_wrong, stale,
};
use crate::support::*;

for_each_version! {
    failed_master => failed_master;
    failed_daemon => failed_daemon;
    slow_master => slow_master;
    slow_first_start => slow_first_start;
    slow_daemon => slow_daemon;
    stopped_master => stopped_master;
}

fn result(page: &Page, result: &str) -> f64 {
    page.sum("haproxy_host_reloads_total", &[("result", result)])
}

fn last_successful(page: &Page, value: f64) -> bool {
    page.is("haproxy_host_last_reload_successful", &[], value)
}

/// The old worker goes on serving and is never called stale, and the next good reload ends the anomaly.
fn failed_master(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Master);
    service.configure(WAITING_ROOM);
    let worker = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_page("a serving worker", |page| page.is("haproxy_host_up", &[], 1.0));

    service.configure(BROKEN);
    service.signal_reload();
    let page = exporter.await_page("the failed reload", |page| {
        page.anomalies_are(&["reload_failed"]) && last_successful(page, 0.0)
    });
    assert_eq!(result(&page, "failure"), 1.0, "{}", page.brief());
    assert_eq!(result(&page, "success"), 0.0, "{}", page.brief());
    exporter.await_samples(5);
    assert!(bed.listens(worker), "the old worker goes on");
    recorder.never("the serving worker stale", |page| stale(page) > 0.0);
    recorder.never("a haproxy down", something_down);

    let flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, worker);
    service.configure(WAITING_ROOM);
    service.reload();
    let page = exporter.await_page("the end of it", |page| {
        page.anomalies_are(&[]) && last_successful(page, 1.0) && page.stale("draining") == 1.0
    });
    assert_eq!(result(&page, "failure"), 1.0, "{}", page.brief());
    assert_eq!(result(&page, "success"), 1.0, "{}", page.brief());
    drop(flow);
    exporter.await_page("the old worker's end", |page| stale(page) == 0.0);
    recorder.never("two stale workers", |page| stale(page) > 1.0);
}

/// A daemon that cannot start leaves the old one in charge.
fn failed_daemon(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM);
    let old = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_page("a serving daemon", |page| page.is("haproxy_host_up", &[], 1.0));

    service.configure(BROKEN);
    assert!(!service.try_reload().status.success());
    exporter.await_samples(8);
    assert!(bed.listens(old), "the old daemon goes on");
    recorder.never("the serving daemon stale", |page| stale(page) > 0.0);
    recorder.never("a haproxy down", something_down);
    recorder.never("an anomaly", something_wrong);

    service.configure(WAITING_ROOM);
    service.reload();
    let page = exporter.await_page("the good reload", |page| result(page, "success") == 1.0);
    assert_eq!(result(&page, "failure"), 0.0, "not knowable: {}", page.brief());
}

/// A start that lasts: the process that serves meanwhile is not stale, the new one is starting, and
/// nothing is wrong for as long as it takes.
fn slow_master(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Master);
    service.configure(WAITING_ROOM);
    let old = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();

    let gate = Gate::new(&bed, &service);
    service.configure(&format!("{WAITING_ROOM}{}", gate.proxy()));
    service.signal_reload();
    exporter.await_samples(12);
    assert!(bed.listens(old));
    recorder.never("the serving worker stale", |page| stale(page) > 0.0);
    recorder.never("a haproxy down", something_down);
    recorder.never("an anomaly", something_wrong);

    drop(gate);
    exporter.await_page("the slow reload's success", |page| {
        result(page, "success") == 1.0
            && page.is(
                "haproxy_host_bound_ports",
                &[("protocol", "tcp"), ("generation", "current")],
                2.0,
            )
            && stale(page) == 0.0
    });
    recorder.never("an anomaly", something_wrong);
    recorder.never("a failed reload", |page| result(page, "failure") > 0.0);
}

/// While a first generation starts there is nothing to be stale, orphaned or failed.
fn slow_first_start(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Master);
    let gate = Gate::new(&bed, &service);
    service.configure(&format!("{WAITING_ROOM}{}", gate.proxy()));
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    std::thread::scope(|scope| {
        let gate = gate; // opens for the launch to end, whatever fails here
        // Its pidfile comes only after the configuration was read.
        scope.spawn(|| service.start());
        await_true("a starting process", || !bed.pids_of("haproxy").is_empty());
        exporter.await_samples(10);
        recorder.never("a stale process", |page| stale(page) > 0.0);
        recorder.never("an anomaly", something_wrong);
        recorder.never("a haproxy up", |page| page.sum("haproxy_host_up", &[]) > 0.0);
        drop(gate);
    });
    exporter.await_page("a serving worker", |page| page.is("haproxy_host_up", &[], 1.0));
    recorder.never("a stale process", |page| stale(page) > 0.0);
    recorder.never("an anomaly", something_wrong);
}

/// The same for daemons, with a held connection.
fn slow_daemon(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::DaemonTransfer);
    service.configure(WAITING_ROOM);
    let old = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let _flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, old);

    let gate = Gate::new(&bed, &service);
    service.configure(&format!("{WAITING_ROOM}{}", gate.proxy()));
    std::thread::scope(|scope| {
        let gate = gate; // opens for the launch to end, whatever fails here
        scope.spawn(|| service.reload());
        exporter.await_page("a starting daemon", |page| {
            // From 3.1 on a launcher waits for its child: together at most one more generation.
            page.sum("haproxy_host_processes", &[("generation", "starting")]) >= 1.0
                && page.sum("haproxy_host_generations", &[]) <= 2.0
        });
        exporter.await_samples(8);
        recorder.never("the serving daemon stale", |page| stale(page) > 0.0);
        recorder.never("a haproxy down", something_down);
        drop(gate);
    });
    exporter.await_page("the slow reload's success", |page| {
        result(page, "success") == 1.0 && page.stale("draining") == 1.0
    });
    recorder.never("an anomaly", something_wrong);
}

/// A master that does not hear its SIGUSR2: the reload was asked for and did not land.
fn stopped_master(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Master);
    service.configure(WAITING_ROOM);
    service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    bed.kill("STOP", service.master());
    service.signal_reload();
    exporter.await_page("the reload not heard", |page| page.anomalies_are(&["reload_failed"]));
    recorder.never("the serving worker stale", |page| stale(page) > 0.0);
    recorder.never("a haproxy down", something_down);
    bed.kill("CONT", service.master());
    exporter.await_page("the reload heard", |page| {
        page.anomalies_are(&[]) && result(page, "success") == 1.0
    });
}
