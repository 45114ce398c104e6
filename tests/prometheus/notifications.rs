//! End to end: something happens to a real HAProxy, and the right receivers are notified of the right alert
//! and of its end, and of nothing else.

use super::chain::{Chain, Programs};
use super::support::proxies::{PATIENT_ECHO, WAITING_ROOM};
use super::support::*;

const HOST: &str = "/d/haproxy-host-host?var-instance=localhost";
const LBAGENT: &str = "/d/haproxy-host-host?var-instance=localhost&var-haproxy=lbagent";

fn listener(port: u16) -> String {
    format!(
        "\nlisten on-{port}\n    mode tcp\n    bind 127.0.0.1:{port}\n    server nobody 127.0.0.1:9\n"
    )
}

/// The exporter's configuration for a service that it knows by name. The grace is longer than the two
/// seconds for which a failing reload pauses the listeners of the serving process.
fn lbagent(service: &Service<'_>) -> String {
    format!(
        "defaults: {{stale_grace: 4s, thresholds: {{stale_processes: 2}}}}\n\
         haproxys: [{{name: lbagent, match: {{pidfile: {}}}}}]\n",
        service.pidfile().display()
    )
}

macro_rules! with_oldest_and_newest {
    ($($name:ident),+ $(,)?) => { $(mod $name {
        use super::*;
        #[test] fn oldest() { super::$name(&Programs::oldest()); }
        #[test] fn newest() { super::$name(&Programs::newest()); }
    })+ };
}
with_oldest_and_newest!(founding, blocked_while_down, stranded, failed_reload, lost_rights);

/// Old processes pile up behind held connections, HAProxy's own connection to a server gets the number of a
/// mapping that is about to be made, and the reload that should make it fails.
fn founding(programs: &Programs) {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_port_range", "59000 59999");
    bed.sysctl("ipv4/ip_local_reserved_ports", "59044");
    // A connection that ends leaves no TIME_WAIT behind, which would hold its port for a minute.
    bed.sysctl("ipv4/tcp_max_tw_buckets", "0");
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let mut service = Service::new(&bed, programs.haproxy, Manner::DaemonTransfer);
    let directory = service.path("").display().to_string();
    let pidfile = service.pidfile().display().to_string();
    service.arguments =
        ["-p", &pidfile, "-C", &directory, "-f", &directory].map(str::to_owned).to_vec();
    let log = "    log 127.0.0.1:514 local0\n";
    let echo = format!("{PATIENT_ECHO}    option tcplog\n    log global\n");
    service.configure_with(log, &echo).start();
    let exporter = Exporter::configured(&bed, &lbagent(&service));
    let chain = Chain::start(&bed, programs);

    let mut held = Vec::new();
    for old in 1..=3 {
        // A connection that ends is logged, which opens the log socket.
        drop(Flow::echoing(&bed, "127.0.0.1:8002"));
        held.push(Flow::echoing(&bed, "127.0.0.1:8002"));
        service.reload();
        exporter.await_page(&format!("{old} draining"), |page| {
            page.is("haproxy_host_stale_processes", &[("state", "draining")], f64::from(old))
        });
    }
    chain.assert_notices(&[]);
    let serving = service.serving();
    let flow = scenes::connect_from_59044(&bed, serving, "59000 59999");
    service.configure_with(log, &format!("{echo}{}", listener(59044)));
    assert!(!service.try_reload().status.success(), "the number is taken");

    let notice = chain.await_notice("firing", "HAProxyPortBlocked");
    notice.assert_labels(&[
        ("severity", "critical"),
        ("haproxy", "lbagent"),
        ("kind", "port_blocked"),
    ]);
    notice.assert_annotations(
        LBAGENT,
        &[
            "lbagent on localhost declares 1 port that something else holds: tcp 59044 (127.0.0.1) held by haproxy outgoing.",
            "`haproxy-host-exporter inspect --haproxy lbagent`",
        ],
    );
    let notice = chain.await_notice("firing", "HAProxyStaleProcessesPilingUp");
    notice.assert_labels(&[("severity", "warning"), ("haproxy", "lbagent")]);
    notice.assert_annotations(
        LBAGENT,
        &["lbagent on localhost has 4 generations alive; stale processes: 3 draining. Memory goes"],
    );
    let notice = chain.await_notice("firing", "HAProxyPortEphemeral");
    notice.assert_labels(&[
        ("severity", "info"),
        ("haproxy", "lbagent"),
        ("kind", "port_ephemeral"),
    ]);
    notice.assert_annotations(
        LBAGENT,
        &["1 listening address(es) of lbagent on localhost lie in the ephemeral range (tcp 59044):"],
    );

    // The remedy that the messages advise.
    flow.reset();
    await_true("the connection to end", || bed.connections(serving) == 0);
    bed.sysctl("ipv4/ip_local_reserved_ports", "59044");
    // Any other connection in the bed may have had the number too, while it was not reserved, and one
    // that is kept alive would keep it.
    bed.shell("ss -K -tn state established 'sport = :59044'");
    await_true("the reload", || service.try_reload().status.success());
    drop(held);
    for alert in ["HAProxyPortBlocked", "HAProxyStaleProcessesPilingUp", "HAProxyPortEphemeral"] {
        chain.await_notice("resolved", alert);
    }
    chain.assert_notices(&[
        "chat firing HAProxyPortEphemeral",
        "chat resolved HAProxyPortEphemeral",
        "haproxy firing HAProxyPortBlocked",
        "haproxy resolved HAProxyPortBlocked",
        "mail firing HAProxyStaleProcessesPilingUp",
        "mail resolved HAProxyStaleProcessesPilingUp",
    ]);
}

/// An agent kills HAProxy to start it anew, and another program has its port by then.
fn blocked_while_down(programs: &Programs) {
    let bed = Bed::new();
    let service = Service::new(&bed, programs.haproxy, Manner::Daemon);
    service.configure(WAITING_ROOM);
    let serving = service.start();
    let exporter = Exporter::configured(&bed, &lbagent(&service));
    exporter.await_page("its configuration", |page| {
        page.is("haproxy_host_declared_ports", &[("protocol", "tcp")], 1.0)
    });
    let chain = Chain::start(&bed, programs);
    bed.kill("KILL", serving);
    await_true("its end", || !bed.is_alive(serving));
    let mut command = bed.command(tool("socat"));
    command.args(["TCP-LISTEN:8001,bind=127.0.0.1,fork", "PIPE"]);
    let thief = bed.start(command, "socat.log");
    await_true("the port taken", || bed.listens(thief.pid()));

    let notice = chain.await_notice("firing", "HAProxyPortBlocked");
    notice.assert_labels(&[
        ("severity", "critical"),
        ("haproxy", "lbagent"),
        ("kind", "port_blocked"),
    ]);
    notice.assert_annotations(LBAGENT, &["lbagent on localhost declares 1 port that something else holds: tcp 8001 (127.0.0.1) held by socat."]);
    let notice = chain.await_notice("firing", "HAProxyDown");
    notice.assert_labels(&[
        ("severity", "critical"),
        ("haproxy", "lbagent"),
        ("origin", "configured"),
    ]);
    notice.assert_annotations(LBAGENT, &["lbagent on localhost is down"]);

    drop(thief);
    service.start();
    chain.await_notice("resolved", "HAProxyPortBlocked");
    chain.await_notice("resolved", "HAProxyDown");
    chain.assert_notices(&[
        "haproxy firing HAProxyDown",
        "haproxy firing HAProxyPortBlocked",
        "haproxy resolved HAProxyDown",
        "haproxy resolved HAProxyPortBlocked",
    ]);
}

/// The old daemon does not receive its signal to stop and goes on with a port that is no longer declared.
fn stranded(programs: &Programs) {
    let bed = Bed::new();
    let service = Service::new(&bed, programs.haproxy, Manner::Daemon);
    service.configure(WAITING_ROOM);
    let old = service.start();
    let _exporter = Exporter::configured(&bed, &lbagent(&service));
    let chain = Chain::start(&bed, programs);
    bed.kill("STOP", old);
    service.configure(&listener(8005));
    service.reload();

    let notice = chain.await_notice("firing", "HAProxyStaleListener");
    notice.assert_labels(&[
        ("severity", "critical"),
        ("haproxy", "lbagent"),
        ("kind", "port_stale_listener"),
    ]);
    notice.assert_annotations(
        LBAGENT,
        &[
            "a stale process of lbagent on localhost still listens on 1 port: tcp 8001 (127.0.0.1).",
            "`haproxy-host-exporter inspect --haproxy lbagent`",
            "`kill -USR1 PID`",
        ],
    );
    chain.assert_notices(&["haproxy firing HAProxyStaleListener"]);

    bed.kill("CONT", old);
    chain.await_notice("resolved", "HAProxyStaleListener");
    chain.assert_notices(&[
        "haproxy firing HAProxyStaleListener",
        "haproxy resolved HAProxyStaleListener",
    ]);
}

/// A reload with a configuration that HAProxy refuses.
fn failed_reload(programs: &Programs) {
    let bed = Bed::new();
    let service = Service::new(&bed, programs.haproxy, Manner::Master);
    service.configure(WAITING_ROOM);
    let worker = service.start();
    let _exporter = Exporter::configured(&bed, &lbagent(&service));
    let chain = Chain::start(&bed, programs);
    service.configure("\nlisten broken\n    nonsense here\n");
    service.signal_reload();

    let notice = chain.await_notice("firing", "HAProxyReloadFailed");
    notice.assert_labels(&[
        ("severity", "warning"),
        ("haproxy", "lbagent"),
        ("kind", "reload_failed"),
    ]);
    notice.assert_annotations(
        LBAGENT,
        &[
            "The last reload of lbagent on localhost did not land: the previous configuration still serves",
            "`haproxy -c -f FILE` with its configuration on the host, then `haproxy-host-exporter check --haproxy lbagent`",
        ],
    );
    assert!(bed.listens(worker), "the old worker goes on");
    chain.assert_notices(&["mail firing HAProxyReloadFailed"]);

    service.configure(WAITING_ROOM);
    service.reload();
    chain.await_notice("resolved", "HAProxyReloadFailed");
    chain.assert_notices(&["mail firing HAProxyReloadFailed", "mail resolved HAProxyReloadFailed"]);
}

/// An exporter that comes back from a restart without its rights sees too little, and says so.
fn lost_rights(programs: &Programs) {
    let bed = Bed::new();
    let service = Service::new(&bed, programs.haproxy, Manner::Master);
    service.configure(WAITING_ROOM).start();
    let config = lbagent(&service);
    let exporter = Exporter::configured(&bed, &config);
    let chain = Chain::start(&bed, programs);
    chain.assert_notices(&[]);

    drop(exporter);
    let exporter = Exporter::launched(&bed, Exporter::as_nobody(&bed), &config);
    let notice = chain.await_notice("firing", "HAProxyHostExporterBlind");
    notice.assert_labels(&[("severity", "warning")]);
    notice.assert_annotations(
        HOST,
        &[
            "The exporter on localhost sees too little.",
            "Unreadable: descriptors (2).",
            "cap_dac_read_search and cap_sys_ptrace",
        ],
    );
    chain.assert_notices(&["mail firing HAProxyHostExporterBlind"]);

    drop(exporter);
    let _exporter = Exporter::configured(&bed, &config);
    chain.await_notice("resolved", "HAProxyHostExporterBlind");
    chain.assert_notices(&[
        "mail firing HAProxyHostExporterBlind",
        "mail resolved HAProxyHostExporterBlind",
    ]);
}
