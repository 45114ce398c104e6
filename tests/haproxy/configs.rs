//! The configuration on disk against what runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::proxies::{WAITING_ROOM, listeners, something_down, something_wrong};
use crate::support::*;

for_each_version! {
    not_loaded_by_a_master => |version| not_loaded(version, Manner::Master);
    not_loaded_by_a_daemon => |version| not_loaded(version, Manner::DaemonTransfer);
    undeclared => undeclared;
    missing => missing;
    own_grace_of_a_daemon => |version| own_grace(version, Manner::Daemon);
    own_grace_with_transfer => |version| own_grace(version, Manner::DaemonTransfer);
    edited_every_time => edited_every_time;
}
for_each_version! { [v2_6 V2_6, v3_2 V3_2, v3_4 V3_4]
    own_grace_of_a_worker => |version| own_grace(version, Manner::Master);
}
/// Graces that can be waited for.
pub const GRACES: &str = "defaults: {stale_grace: 1s, reload_grace: 2s}\n";
/// More samples than those take.
pub const SAMPLES_OF_GRACES: usize = 13;

/// What is declared, by protocol: of every haproxy on the page.
pub fn declared(page: &Page, protocol: &str) -> Vec<f64> {
    page.all("haproxy_host_declared_ports", &[("protocol", protocol)]).map(|s| s.value).collect()
}

/// The ports the current generations listen on.
fn bound(page: &Page) -> Vec<String> {
    let current = [("generation", "current")];
    let ports = page.all("haproxy_host_port_info", &current).map(|s| s.label("port").to_owned());
    ports.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The anomalies of a kind: protocol, address and port of each.
pub fn anomalous(page: &Page, kind: &str) -> Vec<String> {
    page.all("haproxy_host_anomaly_info", &[("kind", kind)])
        .map(|info| ["protocol", "address", "port"].map(|name| info.label(name)).join(" "))
        .collect()
}

/// What a second exporter, one that has seen nothing before, gives as evidence of a kind.
fn evidence(bed: &Bed, kind: &str) -> String {
    let yaml = bed.directory().join("exporter.yaml").display().to_string();
    let arguments = ["inspect", "--output", "json", "--config.file", &yaml];
    let output = Exporter::command(bed, &arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let anomalies = report["haproxys"][0]["anomalies"].as_array().cloned().unwrap_or_default();
    let of_kind = anomalies.iter().filter(|anomaly| anomaly["kind"] == kind);
    let evidence: Vec<String> =
        of_kind.map(|anomaly| format!("{} {}", anomaly["port"], anomaly["evidence"])).collect();
    assert!(!evidence.is_empty(), "inspect says nothing of {kind}: {report:#}");
    evidence.join("\n")
}

fn modified(file: &Path) -> f64 {
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    modified.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// No part of a configuration was hidden.
pub fn all_read(page: &Page) -> bool {
    page.is("haproxy_host_unreadable", &[("what", "config")], 0.0)
}

/// One port is deleted from the file and one is added, without a reload.
fn not_loaded(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(&listeners(&[8011, 8012])).start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let file = service.path("haproxy.cfg");
    let page = exporter.await_page("what is declared", |page| declared(page, "tcp") == [2.0]);
    assert_eq!(declared(&page, "udp"), [0.0]);
    let since = page.value("haproxy_host_config_mtime_seconds", &[]).unwrap();
    assert!((since - modified(&file)).abs() < 0.01, "{since}, the file: {}", modified(&file));
    // Written again, it has a new date and is the same.
    service.configure(&listeners(&[8011, 8012]));
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);

    service.configure(&listeners(&[8011, 8013, 8014]));
    let edited = modified(&file);
    let page = exporter.await_page("the edit", |page| page.anomalies_are(&["config_not_loaded"]));
    assert_eq!(bound(&page), ["8011", "8012"]);
    assert_eq!(declared(&page, "tcp"), [3.0], "{}", page.brief());
    let since = "haproxy_host_anomaly_start_timestamp_seconds";
    let since = page.value(since, &[("kind", "config_not_loaded")]).unwrap();
    assert!((since - edited).abs() < 0.01, "since {since}, edited {edited}");
    recorder.never("an anomaly before its time", |page| {
        let taken = page.value("haproxy_host_sample_timestamp_seconds", &[]).unwrap_or_default();
        something_wrong(page) && taken < edited + 2.0
    });
    let why = evidence(&bed, "config_not_loaded");
    for change in [
        "would bind tcp 127.0.0.1 port 8013",
        "would bind tcp 127.0.0.1 port 8014",
        "would release tcp 127.0.0.1 port 8012",
    ] {
        assert!(why.contains(change), "{why}");
    }
    assert!(!why.contains("8011"), "{why}");

    service.reload();
    exporter.await_page("the reload", |page| {
        page.anomalies_are(&[]) && bound(page) == ["8011", "8013", "8014"]
    });
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "config_not_loaded")
    });
    recorder.never("a haproxy down", something_down);
    assert!(exporter.page().anomalies_are(&[]));
}

/// An older file came back with its date: nothing says that it was edited, and it declares less.
fn undeclared(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    scenes::serve_with_an_older_file(&bed, &service);

    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let page =
        exporter.await_page("the undeclared port", |page| page.anomalies_are(&["port_undeclared"]));
    assert_eq!(anomalous(&page, "port_undeclared"), ["tcp 127.0.0.1 8012"]);
    assert_eq!(declared(&page, "tcp"), [1.0]);
    assert!(evidence(&bed, "port_undeclared").contains("8012"));
    service.reload();
    exporter.await_page("the reload", |page| page.anomalies_are(&[]) && bound(page) == ["8011"]);
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "port_undeclared")
    });
}

/// A frontend is disabled at run time: its ports are declared, and no process listens on them.
fn missing(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(&scenes::two_frontends()).start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);

    scenes::disable_a_frontend(&service);
    let page =
        exporter.await_page("the missing ports", |page| page.anomalies_are(&["port_missing"]));
    assert_eq!(anomalous(&page, "port_missing"), ["tcp 127.0.0.1 8011", "tcp 127.0.0.1 8012"]);
    assert_eq!(bound(&page), ["8001"]);
    let why = evidence(&bed, "port_missing");
    assert!(why.contains("haproxy.cfg:") && why.contains("listen many"), "{why}");

    service.ask("admin.sock", "enable frontend many").expect("an answer");
    exporter.await_page("them again", |page| {
        page.anomalies_are(&[]) && bound(page) == ["8001", "8011", "8012"]
    });
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "port_missing")
    });
    recorder.never("a haproxy down", something_down);
}

/// `grace` keeps the listeners of an old process open for a while, on purpose.
fn own_grace(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    // A worker that shares its listeners with an older one counts as starting for its first 10 s.
    let grace = if manner == Manner::Master { "13s" } else { "8s" };
    service.configure_with(&format!("    grace {grace}\n"), WAITING_ROOM);
    let old = service.start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    exporter.await_page("a haproxy", |page| page.is("haproxy_host_up", &[], 1.0));
    if manner == Manner::Master {
        service.signal_reload();
    } else {
        service.reload();
    }
    exporter.await_page("the old one, listening", |page| page.stale("listening") == 1.0);
    exporter.await_samples(9); // longer than our own grace
    assert!(bed.listens(old), "the old one's grace ended early");
    recorder.never("an anomaly", something_wrong);
    // A 2.8 was once seen alive, without listener and connection, 20 s after this; why is not known.
    exporter.await_page("its end", |page| page.stale("listening") == 0.0);
    assert!(!bed.is_alive(old) || !bed.listens(old));
    recorder.never("a haproxy down", something_down);
}

/// An ordinary day of two haproxys that are edited before each reload.
fn edited_every_time(version: Version) {
    let bed = Bed::new();
    let services = [("one", Manner::DaemonTransfer, 8100), ("two", Manner::Master, 8200)]
        .map(|(name, manner, base)| (Service::named(&bed, version, manner, name), base));
    let edit = |service: &Service<'_>, base: u16, round: u16| {
        service.configure(&format!(
            "{}{}",
            WAITING_ROOM.replace("8001", &base.to_string()),
            listeners(&[base + round, base + round + 1])
        ));
    };
    for (service, base) in &services {
        edit(service, *base, 1);
        service.start();
    }
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_page("two haproxys", |page| page.sum("haproxy_host_up", &[]) == 2.0);
    recorder.forget();
    let mut held = Vec::new();
    for round in 2..6 {
        for (service, base) in &services {
            held.push(Flow::held_by(&bed, &format!("127.0.0.1:{base}"), service.serving()));
            edit(service, *base, round);
            exporter.await_samples(2);
            service.reload();
        }
        exporter.await_samples(6);
    }
    let page = exporter.await_page("long draining", |page| page.stale("draining") == 8.0);
    assert_eq!(bound(&page), ["8100", "8105", "8106", "8200", "8205", "8206"]);
    assert_eq!(declared(&page, "tcp"), [3.0, 3.0]);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
    recorder.never("something unread", |page| !all_read(page));
    recorder.never("another haproxy", |page| page.haproxys().len() != 2);
}
