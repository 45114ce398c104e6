//! Reloads with held connections, in the three manners: the old generations drain, and nothing is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::proxies::{
    HTTP_WAITING_ROOM, WAITING_ROOM, WAITING_ROOM_ADDRESS, something_down, something_wrong, stale,
};
use crate::support::*;

for_each_version! {
    daemon => |version| tcp(version, Manner::Daemon);
    daemon_transfer => |version| tcp(version, Manner::DaemonTransfer);
    master => |version| tcp(version, Manner::Master);
    http_daemon => |version| http(version, Manner::Daemon);
    http_master => |version| http(version, Manner::Master);
}
for_each_version! { [v3_0 V3_0, v3_2 V3_2, v3_4 V3_4]
    quic_daemon => |version| quic(version, Manner::Daemon);
    quic_daemon_transfer => |version| quic(version, Manner::DaemonTransfer);
    quic_master => |version| quic(version, Manner::Master);
}

const RELOADS: usize = 3;

fn tcp(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(WAITING_ROOM);
    let hold = |server| Flow::held_by(&bed, WAITING_ROOM_ADDRESS, server);
    chain(&bed, &service, manner, Listeners { tcp: 1, udp: 0 }, hold);
}

fn http(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(HTTP_WAITING_ROOM);
    let hold = |server| Flow::held_by(&bed, "127.0.0.1:8003", server).ask();
    chain(&bed, &service, manner, Listeners { tcp: 1, udp: 0 }, hold);
}

fn quic(version: Version, manner: Manner) {
    let bed = Bed::new();
    let certificate = certificate(&bed);
    let service = Service::new(&bed, version, manner);
    let quic = format!("    bind quic4@127.0.0.1:8443 ssl crt {} alpn h3\n", certificate.display());
    service.configure_with("    limited-quic\n", &format!("{HTTP_WAITING_ROOM}{quic}"));
    let hold = |_| QuicFlow::open(&bed, 8443);
    chain(&bed, &service, manner, Listeners { tcp: 1, udp: 1 }, hold);
}

/// What every generation listens on.
#[derive(Clone, Copy)]
struct Listeners {
    tcp: usize,
    udp: usize,
}

/// Holds a connection in each generation, reloads, and reads the page after each reload; then lets
/// go of one after the other.
fn chain<F>(
    bed: &Bed,
    service: &Service<'_>,
    manner: Manner,
    listeners: Listeners,
    hold: impl Fn(i32) -> F,
) {
    let mut pids = vec![service.start()];
    let exporter = Exporter::start(bed);
    let recorder = exporter.record();
    let drained = |page: &Page, old: usize| is_settled(page, manner, listeners, old);
    exporter.await_page("one generation", |page| drained(page, 0));

    let mut flows = Vec::new();
    let mut first_reload = 0.0..0.0;
    for old in 1..=RELOADS {
        flows.push(hold(service.serving()));
        let before = now();
        pids.push(service.reload());
        if old == 1 {
            first_reload = before..now();
        }
        let page = exporter.await_page(&format!("{old} draining"), |page| drained(page, old));
        assert_oldest(&page, &first_reload);
        assert_eq!(
            page.value("haproxy_host_reloads_total", &[("result", "success")]),
            Some(old as f64)
        );
        recorder.never("more stale processes than there are", |page| stale(page) > old as f64);
        assert!(pids[..old].iter().all(|&pid| bed.is_alive(pid)), "an old process did not stay");
    }

    let (report, code) = Exporter::inspect(bed);
    assert_eq!(pids_called(&report, "stale"), pids[..RELOADS]);
    assert!(pids_called(&report, "current").contains(&pids[RELOADS]), "{report}");
    assert_eq!(code, 0, "{report}");

    // What an exporter that starts now sees is the same, but for what it would have had to watch.
    let since = "haproxy_host_stale_oldest_timestamp_seconds";
    let known = exporter.page().value(since, &[]);
    drop(exporter);
    let exporter = Exporter::start(bed);
    let page = exporter.await_page("the same again", |page| drained(page, RELOADS));
    let (known, again) = (known.unwrap(), page.value(since, &[]).unwrap());
    assert!((again - known).abs() < 0.1, "oldest stale since {known}, after a restart {again}");

    for old in (0..RELOADS).rev() {
        drop(flows.remove(0));
        exporter.await_page(&format!("{old} draining"), |page| drained(page, old));
    }
    let page = exporter.page();
    assert_eq!(page.all("haproxy_host_stale_oldest_timestamp_seconds", &[]).count(), 0);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
}

/// `old` generations drain with one connection each; one serves.
fn is_settled(page: &Page, manner: Manner, listeners: Listeners, old: usize) -> bool {
    let (role, master) = if manner == Manner::Master { ("worker", 1.0) } else { ("daemon", 0.0) };
    let old = old as f64;
    let processes = |role, generation| {
        page.sum("haproxy_host_processes", &[("role", role), ("generation", generation)])
    };
    let bound = |protocol, generation| {
        page.sum("haproxy_host_bound_ports", &[("protocol", protocol), ("generation", generation)])
    };
    page.is("haproxy_host_haproxys", &[], 1.0)
        && page.is("haproxy_host_up", &[("origin", "discovered")], 1.0)
        && processes(role, "current") == 1.0
        && processes(role, "stale") == old
        && processes(role, "starting") == 0.0
        && processes("master", "current") == master
        && page.is("haproxy_host_stale_processes", &[("state", "draining")], old)
        && ["listening", "idle", "zombie", "unknown"]
            .iter()
            .all(|state| page.is("haproxy_host_stale_processes", &[("state", state)], 0.0))
        && stale_connections(page) == old
        && page.is("haproxy_host_generations", &[], old + 1.0)
        && bound("tcp", "current") == listeners.tcp as f64
        && bound("udp", "current") == listeners.udp as f64
        && bound("tcp", "stale") + bound("udp", "stale") == 0.0
        && page.all("haproxy_host_port_info", &[]).count() == listeners.tcp + listeners.udp
}

/// Connections of stale processes, in any state that a held one can have: QUIC has none of TCP's states.
fn stale_connections(page: &Page) -> f64 {
    page.sum("haproxy_host_stale_connections", &[("state", "established")])
        + page.sum("haproxy_host_stale_connections", &[("state", "other")])
}

/// The longest-stale process was superseded when the first reload's process started.
fn assert_oldest(page: &Page, first_reload: &std::ops::Range<f64>) {
    let since =
        page.value("haproxy_host_stale_oldest_timestamp_seconds", &[]).expect("a stale process");
    // Process start times are known to a tick, the boot time to less than a second.
    let range = first_reload.start - 1.0..first_reload.end + 1.0;
    assert!(range.contains(&since), "oldest stale since {since}, first reload {first_reload:?}");
}

fn pids_called(report: &Value, generation: &str) -> Vec<i32> {
    let processes = report["haproxys"][0]["processes"].as_array().cloned().unwrap_or_default();
    let mut pids: Vec<i32> = processes
        .iter()
        .filter(|process| process["generation"] == generation)
        .filter_map(|process| i32::try_from(process["pid"].as_i64()?).ok())
        .collect();
    pids.sort_unstable();
    pids
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
