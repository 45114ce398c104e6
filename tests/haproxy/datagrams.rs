//! UDP listeners where the kernel chooses ports: declared ones are distinguished from sockets that send.

use super::configs::{GRACES, SAMPLES_OF_GRACES, anomalous, declared};
use super::proxies::{ECHO, HTTP_WAITING_ROOM, something_down};
use crate::support::*;

for_each_version! { [v2_6 V2_6, v3_2 V3_2, v3_4 V3_4]
    syslog_in_the_ephemeral_range => syslog_in_the_ephemeral_range;
}
for_each_version! { [v3_0 V3_0, v3_2 V3_2, v3_4 V3_4]
    quic_in_the_ephemeral_range => quic_in_the_ephemeral_range;
}

/// The ports that UDP listeners of every generation hold.
fn udp_ports(page: &Page) -> Vec<String> {
    let udp = [("protocol", "udp")];
    page.all("haproxy_host_port_info", &udp).map(|port| port.label("port").to_owned()).collect()
}

/// It is opened when something is logged for the first time, on a port the kernel chooses.
fn await_the_log_socket(bed: &Bed, listener: &str) {
    let listener = format!(":{listener}");
    await_true("the log socket", || {
        let sockets = bed.shell("ss -Huan");
        sockets.lines().any(|line| line.contains(":4") && !line.contains(&listener))
    });
}

/// Declared, a QUIC listener is one also where the kernel chooses ports; a log socket never is.
fn quic_in_the_ephemeral_range(version: Version) {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_port_range", "40000 49999");
    let certificate = certificate(&bed);
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let service = Service::new(&bed, version, Manner::Master);
    let quic =
        format!("    bind quic4@127.0.0.1:45000 ssl crt {} alpn h3\n", certificate.display());
    service.configure_with(
        "    limited-quic\n    log 127.0.0.1:514 local0\n",
        &format!("{HTTP_WAITING_ROOM}{quic}{ECHO}    option tcplog\n    log global\n"),
    );
    service.start();
    // A connection that ends is logged, which opens the log's socket.
    drop(Flow::echoing(&bed, "127.0.0.1:8002"));
    await_the_log_socket(&bed, "45000");
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let page = exporter
        .await_page("the port in the range", |page| page.anomalies_are(&["port_ephemeral"]));
    assert_eq!(anomalous(&page, "port_ephemeral"), ["udp 127.0.0.1 45000"]);
    assert_eq!(declared(&page, "udp"), [1.0]);
    let _flow = QuicFlow::open(&bed, 45000);
    service.reload();
    exporter.await_page("one draining", |page| page.stale("draining") == 1.0);
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("another UDP port", |page| udp_ports(page).iter().any(|port| port != "45000"));
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "port_ephemeral")
    });
    recorder.never("a haproxy down", something_down);
    assert_eq!(udp_ports(&exporter.page()), ["45000"]);
}

/// The same of a listener for log messages, beside a socket that sends them.
fn syslog_in_the_ephemeral_range(version: Version) {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_port_range", "40000 49999");
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let service = Service::new(&bed, version, Manner::DaemonTransfer);
    let forward = "\nlog-forward syslog\n    dgram-bind 127.0.0.1:45514\n    log global\n";
    service.configure_with(
        "    log 127.0.0.1:514 local0\n",
        &format!("{ECHO}    option tcplog\n    log global\n{forward}"),
    );
    service.start();
    drop(Flow::echoing(&bed, "127.0.0.1:8002"));
    await_the_log_socket(&bed, "45514");
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    exporter.await_page("the port in the range", |page| page.anomalies_are(&["port_ephemeral"]));
    service.reload();
    drop(Flow::echoing(&bed, "127.0.0.1:8002"));
    exporter.await_samples(SAMPLES_OF_GRACES);
    assert_eq!(udp_ports(&exporter.page()), ["45514"]);
    recorder.never("another UDP port", |page| udp_ports(page).iter().any(|port| port != "45514"));
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "port_ephemeral")
    });
}
