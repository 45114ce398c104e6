//! Ports out of place: outside the allowed, in two hands, in the kernel's range, with a full queue.

use std::io::ErrorKind;
use std::net::TcpStream;

use super::proxies::{WAITING_ROOM, listeners, something_down, something_wrong, stale};
use crate::support::*;

for_each_version! {
    split => split;
    backlog => backlog;
    connection_by_source => connection_by_source;
}

fn anomalous_ports(page: &Page) -> Vec<String> {
    page.label_values("haproxy_host_anomaly_info", "port").into_iter().collect()
}

/// Policy: by number, by range, by address; and what was accepted is silent.
#[test]
fn out_of_range() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Master);
    service.configure(&listeners(&[8080, 8085, 9001, 9002]));
    service.start();
    let exporter = Exporter::configured(
        &bed,
        "defaults:
  stale_grace: 1s
  allowed_ports: [\"8080\", \"tcp/8081-8089\", \"127.0.0.2:9001\", \"udp/9002\"]
  ignore: [{kind: port_out_of_range, port: 9002}]
",
    );
    let page = exporter
        .await_page("the port out of range", |page| page.anomalies_are(&["port_out_of_range"]));
    assert_eq!(anomalous_ports(&page), ["9001"]);
    assert!(page.is("haproxy_host_anomalies", &[("kind", "port_out_of_range")], 1.0));
    assert!(
        page.is("haproxy_host_allowed_ports", &[("protocol", "tcp")], 11.0),
        "{}",
        page.brief()
    );

    service.configure(&listeners(&[8080, 8085, 9002]));
    service.reload();
    exporter.await_page("its end", |page| page.anomalies_are(&[]));
}

/// Rules for one haproxy replace the defaults and do not touch the other.
#[test]
fn out_of_range_by_name() {
    let bed = Bed::new();
    let inner = Service::named(&bed, Version::V2_6, Manner::Daemon, "inner");
    inner.configure(&listeners(&[8080])).start();
    let outer = Service::named(&bed, Version::V3_0, Manner::Master, "outer");
    outer.configure(&listeners(&[8443])).start();
    let yaml = format!(
        "defaults: {{stale_grace: 1s, allowed_ports: []}}
haproxys:
  - name: edge
    match: {{pidfile: {}}}
    allowed_ports: [\"8443\"]
  - name: absent
    match: {{pidfile: /nonexistent.pid}}
",
        outer.pidfile().display()
    );
    let exporter = Exporter::configured(&bed, &yaml);
    let page = exporter
        .await_page("the port out of range", |page| page.anomalies_are(&["port_out_of_range"]));
    assert_eq!(anomalous_ports(&page), ["8080"]);
    assert!(page.is("haproxy_host_up", &[("haproxy", "edge"), ("origin", "configured")], 1.0));
    // A configured one has its series also when it is not there.
    assert!(page.is("haproxy_host_up", &[("haproxy", "absent"), ("origin", "configured")], 0.0));
    assert!(page.is(
        "haproxy_host_anomalies",
        &[("haproxy", "edge"), ("kind", "port_out_of_range")],
        0.0
    ));
    assert_eq!(page.haproxys().len(), 3, "{}", page.brief());
}

/// Two haproxys on one port: clients reach either.
fn split(version: Version) {
    let bed = Bed::new();
    let left = Service::named(&bed, version, Manner::Daemon, "left");
    let right = Service::named(&bed, version, Manner::Master, "right");
    left.configure(WAITING_ROOM).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);

    let worker = right.configure(WAITING_ROOM).start();
    assert!(bed.listens(worker) && bed.listens(left.serving()));
    let page = exporter.await_page("the split port", |page| page.anomalies_are(&["port_split"]));
    assert_eq!(page.haproxys().len(), 2, "{}", page.brief());
    for name in page.haproxys() {
        let labels = [("haproxy", name.as_str()), ("kind", "port_split")];
        assert!(page.is("haproxy_host_anomalies", &labels, 1.0), "{}", page.brief());
    }
    recorder.never("a stale process", |page| stale(page) > 0.0);
    bed.kill("TERM", left.serving());
    exporter.await_page("its end", |page| page.anomalies_are(&[]));
}

/// A master up to 3.0 waits up to two seconds for a port that another program holds. Where it gets the port in the end,
/// its new worker has only that one: HAProxy has lost the ports that it could bind at once, and calls the reload a success.
#[test]
fn lost_by_a_reload_that_waited() {
    for version in [Version::V2_6, Version::V2_8, Version::V3_0] {
        let bed = Bed::new();
        let service = Service::new(&bed, version, Manner::Master);
        let old = service.configure(&listeners(&[8001, 8002])).start();
        let exporter = Exporter::start(&bed);
        exporter.await_page("a serving worker", |page| page.is("haproxy_host_up", &[], 1.0));
        let mut socat = bed.command("socat");
        socat.args(["TCP-LISTEN:8003,bind=127.0.0.1,fork", "/dev/null"]);
        let thief = bed.start(socat, "thief.log");
        await_true("the thief's port", || bed.listens(thief.pid()));
        service.configure(&listeners(&[8001, 8002, 8003]));
        service.signal_reload();
        // While the master tries, the old worker pauses its listeners.
        await_true("the first attempt", || !bed.listens(old));
        drop(thief);
        let page =
            exporter.await_page("the lost ports", |page| page.anomalies_are(&["port_missing"]));
        assert_eq!(anomalous_ports(&page), ["8001", "8002"], "{}", version.name());
        for port in [8001, 8002] {
            let refused = bed.inside(|| TcpStream::connect(("127.0.0.1", port))).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{} {port}", version.name());
        }
        service.reload();
        exporter.await_page("their return", |page| page.anomalies_are(&[]));
    }
}

/// A listener in the ephemeral range, until the range spares it.
#[test]
fn ephemeral() {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_port_range", "40000 49999");
    let service = Service::new(&bed, Version::V2_8, Manner::Master);
    service.configure(&listeners(&[39999, 40000, 45000, 50000])).start();
    let exporter = Exporter::start(&bed);
    let page =
        exporter.await_page("ephemeral ports", |page| page.anomalies_are(&["port_ephemeral"]));
    assert_eq!(anomalous_ports(&page), ["40000", "45000"]);
    bed.sysctl("ipv4/ip_local_reserved_ports", "45000-45010");
    exporter.await_page("one reserved", |page| anomalous_ports(page) == ["40000"]);
    bed.sysctl("ipv4/ip_local_reserved_ports", "40000,45000-45010");
    exporter.await_page("both reserved", |page| page.anomalies_are(&[]));
}

/// No process accepts: the queue fills, and the kernel drops further connections.
fn backlog(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(&scenes::short_queue());
    let serving = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(3);
    recorder.never("an anomaly", something_wrong);
    bed.kill("STOP", serving);
    let _waiting = scenes::fill_the_queue(&bed);
    let page = exporter.await_page("the full queue", |page| page.anomalies_are(&["port_backlog"]));
    let length = page.value("haproxy_host_listen_queue_length", &[("port", "8001")]).unwrap();
    let limit = page.value("haproxy_host_listen_queue_limit", &[("port", "8001")]).unwrap();
    assert!(length >= limit && limit >= 3.0, "{}", page.brief());
    bed.kill("CONT", serving);
    exporter.await_page("an empty queue", |page| {
        page.anomalies_are(&[])
            && page.is("haproxy_host_listen_queue_length", &[("port", "8001")], 0.0)
    });
    recorder.never("a haproxy down", something_down);
}

/// UDP: a log-forward listens; a log socket and a resolver do not. Addresses and interfaces as bound.
#[test]
fn addresses() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure_with(
        "    log 127.0.0.1:514 local0\n",
        "
resolvers dns
    nameserver one 127.0.0.1:53

log-forward syslog
    dgram-bind 127.0.0.1:5514
    log global

listen many
    mode tcp
    bind :8001
    bind [::1]:8001
    bind :::8002 v6only
    bind 127.0.0.1:8003 interface lo
    bind 127.0.0.1:8004-8006
    server named name.invalid:9 resolvers dns init-addr none check
",
    );
    service.start();
    let exporter = Exporter::start(&bed);
    let page = exporter.await_page("a haproxy", |page| page.is("haproxy_host_up", &[], 1.0));
    let mut listeners: Vec<String> = page
        .all("haproxy_host_port_info", &[])
        .map(|port| {
            ["protocol", "address", "port", "interface", "generation"]
                .map(|name| port.label(name))
                .join(" ")
        })
        .collect();
    listeners.sort_unstable();
    let wanted = [
        "tcp 0.0.0.0 8001  current",
        "tcp 127.0.0.1 8003 lo current",
        "tcp 127.0.0.1 8004  current",
        "tcp 127.0.0.1 8005  current",
        "tcp 127.0.0.1 8006  current",
        "tcp :: 8002  current",
        "tcp ::1 8001  current",
        "udp 127.0.0.1 5514  current",
    ];
    assert_eq!(listeners, wanted);
    let labels = |protocol| [("protocol", protocol), ("generation", "current")];
    assert_eq!(page.value("haproxy_host_bound_ports", &labels("tcp")), Some(7.0));
    assert_eq!(page.value("haproxy_host_bound_ports", &labels("udp")), Some(1.0));
}

/// One that listens on unix sockets alone is up as well.
#[test]
fn unix_only() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(&format!(
        "listen local\n    mode tcp\n    bind {}\n    server nobody 127.0.0.1:9\n",
        service.path("front.sock").display()
    ));
    service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_page("a haproxy", |page| page.is("haproxy_host_up", &[], 1.0));
    service.reload();
    exporter.await_page("a reload", |page| {
        page.is("haproxy_host_reloads_total", &[("result", "success")], 1.0) && stale(page) == 0.0
    });
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    assert_eq!(exporter.page().sum("haproxy_host_bound_ports", &[]), 0.0);
}

/// More listeners than series are wanted: the anomalous ones stay, and what was left out is counted.
#[test]
fn capped() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_8, Manner::Daemon);
    let ports: Vec<u16> = (8001..=8040).collect();
    service.configure(&listeners(&ports)).start();
    let exporter = Exporter::configured(
        &bed,
        "defaults:
  stale_grace: 1s
  allowed_ports: [\"8001-8038\"]
  thresholds: {bound_ports: 30, generations: 4}
metrics: {max_port_series: 10}
",
    );
    let page = exporter
        .await_page("ports out of range", |page| page.anomalies_are(&["port_out_of_range"]));
    assert_eq!(page.sum("haproxy_host_bound_ports", &[]), 40.0);
    assert!(
        page.is("haproxy_host_anomalies", &[("kind", "port_out_of_range")], 2.0),
        "{}",
        page.brief()
    );
    let shown = page.label_values("haproxy_host_port_info", "port");
    assert_eq!(shown.len(), 10);
    assert!(shown.contains("8039") && shown.contains("8040"), "{shown:?}");
    let dropped = [("metric", "haproxy_host_port_info")];
    assert_eq!(page.value("haproxy_host_series_dropped", &dropped), Some(30.0));
    assert_eq!(page.value("haproxy_host_threshold", &[("name", "bound_ports")]), Some(30.0));
    assert_eq!(page.value("haproxy_host_threshold", &[("name", "generations")]), Some(4.0));
    let again = exporter.await_samples(2);
    assert_eq!(again.label_values("haproxy_host_port_info", "port"), shown, "a stable choice");
}

/// HAProxy sets `SO_REUSEADDR` on a connection that `source` binds, so a listener can have its port; the port of any
/// other connection is taken.
fn connection_by_source(version: Version) {
    for (source, is_free) in [("source 127.0.0.2", true), ("", false)] {
        let bed = Bed::new();
        let service = Service::new(&bed, version, Manner::Daemon);
        let web = |binds: &str| {
            format!("listen web\n bind 127.0.0.1:8080\n{binds} server s 127.0.0.1:9000 {source}\n")
        };
        service.configure(&web("")).start();
        let _server = EchoServer::start(&bed, "127.0.0.1:9000");
        let _flow = Flow::echoing(&bed, "127.0.0.1:8080");
        let port = bed.shell(
            "ss --no-header --numeric --tcp state established dst 127.0.0.1:9000 |
             awk '{ sub(/.*:/, \"\", $3); print $3 }'",
        );
        service.configure(&web(&format!(" bind :{}\n", port.trim())));
        // A file that was written within a second of the start of a process may be the one that it has read.
        bed.shell(&format!("touch -d '2 seconds' {}", service.path("haproxy.cfg").display()));
        let exporter = Exporter::configured(&bed, "defaults: {stale_grace: 1s}\n");
        exporter.await_page("what is said of the port", |page| {
            page.anomalies().contains("port_ephemeral")
                && page.anomalies().contains("port_blocked") != is_free
        });
        let page = exporter.await_samples(3);
        assert_eq!(page.anomalies().contains("port_blocked"), !is_free, "{}", page.brief());
        assert_eq!(service.try_reload().status.success(), is_free, "{source}");
    }
}
