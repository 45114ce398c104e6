//! Real incidents, replayed. Each test describes what happened.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::gate::Gate;
use super::proxies::{ECHO, WAITING_ROOM, listeners, something_down, something_wrong, stale};
use crate::support::*;

for_each_version! {
    cloudpods_22194 => cloudpods_22194;
    ray_64063 => ray_64063;
    marathon_lb_71 => marathon_lb_71;
    marathon_lb_519 => marathon_lb_519;
    haproxy_consul_33 => haproxy_consul_33;
    haproxy_consul_33_with_transfer => haproxy_consul_33_with_transfer;
    stranded => stranded;
    administrator_stays => administrator_stays;
    administrator_from_elsewhere_stays => administrator_from_elsewhere_stays;
}

/// A log socket and source ports in the ephemeral range look like ports of deleted services, while
/// old processes pile up behind held connections.
fn cloudpods_22194(version: Version) {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_port_range", "59000 59999");
    bed.sysctl("ipv4/ip_local_reserved_ports", "59044");
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let mut service = Service::new(&bed, version, Manner::DaemonTransfer);
    let directory = service.path("").display().to_string();
    let pidfile = service.pidfile().display().to_string();
    service.arguments =
        ["-p", &pidfile, "-C", &directory, "-f", &directory].map(str::to_owned).to_vec();
    let proxies = format!("{ECHO}    option tcplog\n    log global\n");
    service.configure_with("    log 127.0.0.1:514 local0\n", &proxies);
    service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();

    let mut held = Vec::new();
    for old in 1..=3 {
        // A connection that ends is logged, which opens the log socket.
        drop(Flow::echoing(&bed, "127.0.0.1:8002"));
        await_true("the log socket", || {
            bed.shell("ss -Huanp")
                .lines()
                .any(|line| line.contains("haproxy") && line.contains(":59"))
        });
        held.push(Flow::echoing(&bed, "127.0.0.1:8002"));
        exporter.await_samples(1);
        service.reload();
        exporter.await_page(&format!("{old} draining"), |page| {
            page.stale("draining") == f64::from(old)
        });
    }
    // The serving process has a log socket as well.
    drop(Flow::echoing(&bed, "127.0.0.1:8002"));
    let page = exporter.await_samples(2);
    assert_eq!(
        page.label_values("haproxy_host_port_info", "port").into_iter().collect::<Vec<_>>(),
        ["8002"]
    );
    assert_eq!(page.sum("haproxy_host_bound_ports", &[("protocol", "udp")]), 0.0);
    // Both sides of each of the three.
    assert_eq!(
        page.value("haproxy_host_stale_connections", &[("state", "established")]),
        Some(6.0)
    );
    recorder.never("an anomaly", something_wrong);
    recorder.never("a UDP port", |page| {
        page.sum("haproxy_host_bound_ports", &[("protocol", "udp")]) > 0.0
    });

    // A service on a number of that range is another matter, once the range does not spare it. It did
    // so far: or a connection of this very test might hold the number, and the reload fail.
    service.configure(&format!("{ECHO}{}", listeners(&[59044])));
    service.reload();
    exporter.await_page("the new port", |page| {
        page.sum("haproxy_host_bound_ports", &[("protocol", "tcp"), ("generation", "current")])
            == 2.0
    });
    recorder.never("an anomaly", something_wrong);
    bed.shell("echo >/proc/sys/net/ipv4/ip_local_reserved_ports");
    let page =
        exporter.await_page("the ephemeral port", |page| page.anomalies_are(&["port_ephemeral"]));
    assert_eq!(
        page.label_values("haproxy_host_anomaly_info", "port").into_iter().collect::<Vec<_>>(),
        ["59044"]
    );
    bed.sysctl("ipv4/ip_local_reserved_ports", "59044");
    exporter.await_page("its silence", |page| page.anomalies_are(&[]));
}

/// A replacement dies while it starts; the next one replaces the dead one, so the first is never told to
/// stop.
fn ray_64063(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::DaemonTransfer);
    service.configure(WAITING_ROOM);
    let first = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();

    let gate = Gate::new(&bed, &service);
    service.configure(&format!("{WAITING_ROOM}{}", gate.proxy()));
    let mut command = service.command();
    command.args(["-sf", &first.to_string(), "-x"]).arg(service.path("admin.sock"));
    let second = bed.start(command, "second.log");
    exporter.await_page("a starting daemon", |page| {
        page.sum("haproxy_host_processes", &[("generation", "starting")]) >= 1.0
    });
    let dead = second.pid();
    // From 3.1 on the launcher has a child.
    for pid in bed.pids_of("haproxy").into_iter().filter(|&pid| pid != first && pid != dead) {
        bed.kill("KILL", pid);
    }
    drop(second);
    exporter.await_samples(8);
    recorder.never("the serving daemon stale", |page| stale(page) > 0.0);
    recorder.never("a haproxy down", something_down);
    recorder.never("an anomaly", something_wrong);

    service.configure(WAITING_ROOM);
    assert!(service.launch(&["-sf", &dead.to_string()]).status.success());
    assert!(bed.listens(first), "the first was never told to stop");
    let page = exporter.await_page("the stale listener", |page| {
        page.anomalies_are(&["port_stale_listener"]) && page.stale("listening") == 1.0
    });
    let info: Vec<_> = page.all("haproxy_host_anomaly_info", &[]).collect();
    assert_eq!(info.len(), 1, "{}", page.brief());
    assert_eq!((info[0].label("protocol"), info[0].label("port")), ("tcp", "8001"));
    assert!(info[0].label("holder").contains("stale"), "{}", info[0]);
    let kind = [("kind", "port_stale_listener")];
    assert_eq!(page.value("haproxy_host_anomalies_observed_total", &kind), Some(1.0));
    assert_eq!(page.all("haproxy_host_anomaly_start_timestamp_seconds", &kind).count(), 1);
    recorder.never("more than the first stale", |page| stale(page) > 1.0);
    recorder.never("a haproxy down", something_down);

    bed.kill("USR1", first);
    exporter.await_page("its end", |page| page.anomalies_are(&[]) && stale(page) == 0.0);
}

/// Four reloads at one moment, all told to replace the same process: all four listen.
fn marathon_lb_71(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM);
    let first = service.start();
    let exporter = Exporter::start(&bed);
    let old = first.to_string();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(service.launch(&["-sf", &old]).status.success()));
        }
    });
    await_true("the first one's end", || !bed.is_alive(first));
    // Three that listen are a race already; the page may be from before the fourth did.
    let page = exporter.await_page("the race of all four", |page| {
        page.anomalies_are(&["reload_raced"]) && page.stale("listening") == 3.0
    });
    assert_eq!(page.value("haproxy_host_generations", &[]), Some(4.0));
    assert_eq!(page.value("haproxy_host_up", &[]), Some(1.0));

    for pid in bed.pids_of("haproxy").into_iter().filter(|&pid| pid != service.serving()) {
        bed.kill("USR1", pid);
    }
    exporter.await_page("its end", |page| page.anomalies_are(&[]) && stale(page) == 0.0);
}

/// Old processes for days with nothing but connections their clients have left.
fn marathon_lb_519(version: Version) {
    let bed = Bed::new();
    let _deaf = DeafServer::start(&bed, "127.0.0.1:9000");
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(ECHO);
    let old = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let flow = Flow::held_by(&bed, "127.0.0.1:8002", old);
    await_true("the connection to the server", || bed.connections(old) == 2);
    service.reload();
    flow.half_close();
    let page = exporter.await_page("a connection in CLOSE_WAIT", |page| {
        page.is("haproxy_host_stale_connections", &[("state", "close_wait")], 1.0)
    });
    assert_eq!(page.stale("draining"), 1.0);
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
}

/// A bare `-sf` at the first start means nothing. After an empty pidfile it means two that listen.
fn haproxy_consul_33(version: Version) {
    bare_sf(version, Manner::Daemon, "port_split");
}

/// The same where the sockets were handed over: both listen through the same ones.
fn haproxy_consul_33_with_transfer(version: Version) {
    bare_sf(version, Manner::DaemonTransfer, "port_stale_listener");
}

fn bare_sf(version: Version, manner: Manner, kind: &str) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(WAITING_ROOM);
    assert!(service.launch(&["-sf"]).status.success());
    let first = service.serving();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    fs::write(service.pidfile(), "").unwrap();
    exporter.await_samples(8);
    recorder.never("an anomaly", something_wrong);

    scenes::leave_behind(&bed, &service, first, &["-sf"]);
    let page = exporter.await_page(kind, |page| page.anomalies_are(&[kind]));
    assert_eq!(page.stale("listening"), 1.0);
    assert_eq!(page.value("haproxy_host_up", &[]), Some(1.0));
    bed.kill("USR1", first);
    exporter.await_page("its end", |page| page.anomalies_are(&[]) && stale(page) == 0.0);
}

/// The old process does not receive its signal and goes on alone with a port that is no longer declared.
fn stranded(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM);
    let old = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    bed.kill("STOP", old);
    service.configure(&listeners(&[8005]));
    service.reload();
    assert!(bed.listens(old));
    let page = exporter.await_page("the stale listener", |page| {
        page.anomalies_are(&["port_stale_listener"]) && page.stale("listening") == 1.0
    });
    assert_eq!(
        page.label_values("haproxy_host_anomaly_info", "port").into_iter().collect::<Vec<_>>(),
        ["8001"]
    );
    assert!(page.is(
        "haproxy_host_bound_ports",
        &[("protocol", "tcp"), ("generation", "stale")],
        1.0
    ));
    recorder.never("more than the old one stale", |page| stale(page) > 1.0);
    recorder.never("a haproxy down", something_down);
    bed.kill("CONT", old);
    exporter.await_page("its end", |page| page.anomalies_are(&[]) && stale(page) == 0.0);
}

/// A client is still connected to the old process's admin socket: the process drains, because of a unix
/// connection alone.
fn administrator_stays(version: Version) {
    let bed = Bed::new();
    administrator(&bed, version, |socket| bed.inside(|| UnixStream::connect(socket)));
}

/// The same from another network namespace, as from a container that shares the socket's directory.
/// The kernel gives the accepted socket to the client's namespace.
fn administrator_from_elsewhere_stays(version: Version) {
    let bed = Bed::new();
    administrator(&bed, version, UnixStream::connect);
}

fn administrator(
    bed: &Bed,
    version: Version,
    connect: impl FnOnce(PathBuf) -> std::io::Result<UnixStream>,
) {
    let service = Service::new(bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM);
    service.start();
    let exporter = Exporter::start(bed);
    let recorder = exporter.record();
    let mut session = connect(service.path("admin.sock")).unwrap();
    // Without a limit of its own HAProxy ends a session after ten seconds.
    session.write_all(b"prompt; set timeout cli 1h\n").unwrap();
    session.read_exact(&mut [0; 2]).unwrap();
    service.reload();
    exporter.await_page("one draining", |page| {
        page.stale("draining") == 1.0
            && page.is("haproxy_host_stale_connections", &[("state", "unix")], 1.0)
            && page.is("haproxy_host_stale_connections", &[("state", "established")], 0.0)
    });
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("an idle process", |page| page.stale("idle") > 0.0);
    drop(session);
    exporter.await_page("its end", |page| stale(page) == 0.0);
}
