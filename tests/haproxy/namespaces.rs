//! `HAProxy`s in namespaces of their own, and listeners in another network namespace than their process's.

use std::process::Command;

use super::proxies::{WAITING_ROOM, listeners, something_down, something_wrong, stale};
use crate::support::*;

for_each_version! {
    bound_elsewhere_by_a_daemon => |version| bound_elsewhere(version, Manner::Daemon);
    bound_elsewhere_by_a_worker => |version| bound_elsewhere(version, Manner::Master);
    lives_elsewhere => lives_elsewhere;
}

/// One number in two network namespaces, and a port in the other alone.
const HERE_AND_THERE: &str = "
listen here
    mode tcp
    bind 127.0.0.1:8001
    server nobody 127.0.0.1:9

listen there
    mode tcp
    bind 127.0.0.1:8001 namespace blue
    bind 127.0.0.1:8002 namespace blue
    server nobody 127.0.0.1:9
";

/// Makes a network namespace called blue in the bed, with one end of a pair of interfaces in it.
/// The other end goes when the namespace does.
fn add_blue(bed: &Bed) {
    // The names of a bed are its own, though it shares the directory with all others.
    bed.shell("mkdir -p /run/netns && mount -t tmpfs none /run/netns");
    add_blue_again(bed);
    bed.shell("ip link add canary type veth peer name cage netns blue");
}

fn add_blue_again(bed: &Bed) {
    bed.shell("ip netns add blue && ip -n blue link set lo up");
}

/// Waits until nothing keeps the first namespace called blue alive any more.
fn await_its_end(bed: &Bed) {
    await_true("the end of the namespace", || {
        !bed.run("ip", &["link", "show", "canary"]).status.success()
    });
}

fn in_blue(bed: &Bed, line: &str) -> Command {
    let mut command = bed.command("ip");
    command.args(["netns", "exec", "blue", "sh", "-c", line]);
    command
}

fn shell_in_blue(bed: &Bed, line: &str) {
    let output = in_blue(bed, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
}

/// Every port of a metric as `port@netns`.
fn places(page: &Page, metric: &str, labels: &[(&str, &str)]) -> Vec<String> {
    let mut found: Vec<String> = page
        .all(metric, labels)
        .map(|port| format!("{}@{}", port.label("port"), port.label("netns")))
        .collect();
    found.sort_unstable();
    found
}

fn bound(page: &Page) -> Vec<String> {
    places(page, "haproxy_host_port_info", &[("generation", "current")])
}

fn anomalous(page: &Page) -> Vec<String> {
    places(page, "haproxy_host_anomaly_info", &[])
}

fn unreadable(page: &Page) -> f64 {
    page.sum("haproxy_host_unreadable", &[])
}

/// `bind … namespace X`: the socket is in X, its process is not.
fn bound_elsewhere(version: Version, manner: Manner) {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, version, manner);
    service.configure(HERE_AND_THERE);
    let old = service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@", "8001@blue", "8002@blue"], "{}", page.brief());
    let tcp = [("protocol", "tcp"), ("generation", "current")];
    assert_eq!(page.value("haproxy_host_bound_ports", &tcp), Some(3.0));
    assert_eq!(page.value("haproxy_host_declared_ports", &[("protocol", "tcp")]), Some(3.0));
    assert_eq!(unreadable(&page), 0.0, "{}", page.brief());
    recorder.never("an anomaly", something_wrong);
    let (report, code) = Exporter::inspect(&bed);
    let ports = report["haproxys"][0]["ports"].as_array().unwrap();
    let there = ports.iter().filter(|port| port["netns"] == "blue").count();
    assert_eq!((code, ports.len(), there), (0, 3, 2), "{report:#}");

    // Paused there and not here: a missing port of the other namespace.
    service.ask("admin.sock", "disable frontend there").unwrap();
    let page = exporter.await_page("missing ports", |page| page.anomalies_are(&["port_missing"]));
    assert_eq!(anomalous(&page), ["8001@blue", "8002@blue"]);
    service.ask("admin.sock", "enable frontend there").unwrap();
    exporter.await_page("their return", |page| page.anomalies_are(&[]));

    // A reload drops one of them, and the old process is kept from hearing of it.
    service.configure(&HERE_AND_THERE.replace("    bind 127.0.0.1:8002 namespace blue\n", ""));
    bed.kill("STOP", old);
    if manner == Manner::Master {
        service.signal_reload();
    } else {
        assert!(service.try_reload().status.success());
    }
    let held = |page: &Page| {
        places(page, "haproxy_host_anomaly_info", &[("kind", "port_stale_listener")])
            .contains(&"8002@blue".to_owned())
    };
    let page = exporter.await_page("a stale listener there", held);
    assert!(page.stale("listening") >= 1.0, "{}", page.brief());
    // One that was started only now learns it from the process, not from the configuration.
    drop(exporter);
    let exporter = Exporter::start(&bed);
    exporter.await_page("a stale listener there, on a first look", held);
    bed.kill("CONT", old);
    let page = exporter.await_page("its end", |page| page.anomalies_are(&[]) && stale(page) == 0.0);
    assert_eq!(bound(&page), ["8001@", "8001@blue"], "{}", page.brief());
    recorder.never("a haproxy down", something_down);
}

/// In a jail the process sees no names any more; the processes near it do.
#[test]
fn bound_elsewhere_from_a_jail() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    let jail = service.path("jail");
    std::fs::create_dir(&jail).unwrap();
    service.configure_with(&format!("    chroot {}\n", jail.display()), HERE_AND_THERE).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@", "8001@blue", "8002@blue"], "{}", page.brief());
    assert_eq!(unreadable(&page), 0.0, "{}", page.brief());
    service.reload();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
}

/// What a listener in another namespace accepts is there too: such a process drains, it is not idle.
#[test]
fn draining_elsewhere() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, Version::V2_8, Manner::Daemon);
    service.configure(&WAITING_ROOM.replace("8001", "8001 namespace blue"));
    service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let line = "exec socat -u TCP:127.0.0.1:8001 OPEN:/dev/null";
    let mut client = bed.start(in_blue(&bed, line), "client.log");
    await_true("the connection", || {
        let established =
            in_blue(&bed, "ss -Htn state established sport = :8001").output().unwrap();
        !established.stdout.is_empty()
    });
    service.reload();
    exporter.await_page("one draining", |page| page.stale("draining") == 1.0);
    let page = exporter.await_samples(7);
    let established = [("state", "established")];
    assert_eq!(page.sum("haproxy_host_stale_connections", &established), 1.0, "{}", page.brief());
    client.signal(rustix::process::Signal::TERM);
    client.exit_code();
    exporter.await_page("its end", |page| stale(page) == 0.0);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
}

/// Each namespace has its own ephemeral range, and it is followed.
#[test]
fn ephemeral_elsewhere() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    service.configure(HERE_AND_THERE).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    shell_in_blue(&bed, "echo '8000 8100' >/proc/sys/net/ipv4/ip_local_port_range");
    let page =
        exporter.await_page("ephemeral ports", |page| page.anomalies_are(&["port_ephemeral"]));
    assert_eq!(anomalous(&page), ["8001@blue", "8002@blue"]);
    // A long list has an end too.
    let reserved = "1001,1003,1005,1007,1009,1011,1013,1015,1017,8001-8002";
    shell_in_blue(&bed, &format!("echo {reserved} >/proc/sys/net/ipv4/ip_local_reserved_ports"));
    exporter.await_page("both reserved", |page| page.anomalies_are(&[]));
}

/// Another program has the port in the other namespace; the same number here is free.
#[test]
fn blocked_elsewhere() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, Version::V2_6, Manner::Master);
    service.configure(HERE_AND_THERE).start();
    let exporter = Exporter::start(&bed);
    let line = "exec socat TCP-LISTEN:8005,bind=127.0.0.1,fork /dev/null";
    let mut thief = bed.start(in_blue(&bed, line), "socat.log");
    let more = "
listen more
    mode tcp
    bind 127.0.0.1:8005
    bind 127.0.0.1:8005 namespace blue
    server nobody 127.0.0.1:9
";
    service.configure(&format!("{HERE_AND_THERE}{more}"));
    let page = exporter.await_page("a blocked port", |page| page.anomalies_are(&["port_blocked"]));
    assert_eq!(anomalous(&page), ["8005@blue"]);
    let holders = page.label_values("haproxy_host_anomaly_info", "holder");
    assert_eq!(holders.into_iter().collect::<Vec<_>>(), ["socat"]);
    thief.signal(rustix::process::Signal::TERM);
    thief.exit_code();
    service.reload();
    let page = exporter.await_page("the reload", |page| {
        page.anomalies_are(&[]) && bound(page).contains(&"8005@blue".to_owned())
    });
    assert_eq!(bound(&page), ["8001@", "8001@blue", "8002@blue", "8005@", "8005@blue"]);
}

/// Without the right to enter: what is in its own namespace is judged, what is elsewhere is unknown.
#[test]
fn bound_where_the_exporter_may_not_go() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, Version::V3_2, Manner::Master);
    service.configure(HERE_AND_THERE).start();
    let exporter =
        Exporter::launched(&bed, without_sys_admin(&bed), "defaults: {stale_grace: 1s}\n");
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@"], "{}", page.brief());
    assert!(page.is("haproxy_host_up", &[], 1.0), "{}", page.brief());
    assert!(page.is("haproxy_host_unreadable", &[("what", "namespace")], 1.0), "{}", page.brief());
    assert_eq!(page.value("haproxy_host_declared_ports", &[("protocol", "tcp")]), Some(3.0));
    assert_eq!(page.all("haproxy_host_bound_ports", &[]).count(), 0, "there are more");
    for kind in ["port_missing", "port_undeclared", "port_blocked", "port_ephemeral"] {
        let series = page.all("haproxy_host_anomalies", &[("kind", kind)]).count();
        assert_eq!(series, 0, "{kind} cannot be known: {}", page.brief());
    }
    service.reload();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
    let output = without_sys_admin(&bed).args(["inspect"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("network namespace blue") && said.contains("CAP_SYS_ADMIN"), "{said}");
}

/// `ip netns del` takes the name only: HAProxy listens on where it was. Under a new name is another
/// namespace.
#[test]
fn a_name_that_is_gone() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    service.configure(HERE_AND_THERE).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_samples(2);
    bed.shell("ip netns del blue");
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@", "8001@blue", "8002@blue"], "{}", page.brief());

    drop(exporter);
    let exporter = Exporter::start(&bed);
    let page = exporter.await_samples(7);
    let old = page.label_values("haproxy_host_port_info", "netns").pop_last().unwrap();
    assert!(old.parse::<u64>().is_ok(), "a number without a name: {}", page.brief());
    assert_eq!(bound(&page), ["8001@".to_owned(), format!("8001@{old}"), format!("8002@{old}")]);
    assert!(page.is("haproxy_host_unreadable", &[("what", "namespace")], 1.0), "{}", page.brief());
    for kind in ["port_missing", "port_undeclared"] {
        let series = page.all("haproxy_host_anomalies", &[("kind", kind)]).count();
        assert_eq!(series, 0, "{kind} cannot be known: {}", page.brief());
    }
    recorder.never("an anomaly", something_wrong);

    add_blue_again(&bed);
    let page = exporter.await_page("what is in the wrong one", |page| {
        page.anomalies_are(&["port_missing", "port_undeclared"])
    });
    let of = |kind| places(&page, "haproxy_host_anomaly_info", &[("kind", kind)]);
    assert_eq!(of("port_missing"), ["8001@blue", "8002@blue"]);
    assert_eq!(of("port_undeclared"), [format!("8001@{old}"), format!("8002@{old}")]);
    service.reload();
    let page = exporter.await_page("the right one", |page| page.anomalies_are(&[]));
    assert_eq!(bound(&page), ["8001@", "8001@blue", "8002@blue"], "{}", page.brief());
    await_its_end(&bed);
    recorder.never("a haproxy down", something_down);
}

/// One whose process lives elsewhere. What watches it enters once, and leaves with it.
fn lives_elsewhere(version: Version) {
    let bed = Bed::new();
    add_blue(&bed);
    let service = in_blue_all_over(&bed, version);
    let trace = bed.directory().join("trace");
    let mut command = bed.command(tool("strace"));
    command.args(["-f", "-e", "trace=setns", "-o"]).arg(&trace).arg(Exporter::binary());
    let exporter = Exporter::launched(&bed, command, "defaults: {stale_grace: 1s}\n");
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@blue"], "{}", page.brief());
    assert_eq!(unreadable(&page), 0.0, "{}", page.brief());
    service.reload();
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
    let entered = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(entered.lines().filter(|line| line.contains("setns(")).count(), 1, "{entered}");

    bed.kill("TERM", service.serving());
    exporter.await_page("its end", |page| page.is("haproxy_host_up", &[], 0.0));
    bed.shell("ip netns del blue");
    await_its_end(&bed);
}

/// The same without the right to enter: what procfs shows of the namespace, and no more.
#[test]
fn lives_where_the_exporter_may_not_go() {
    let bed = Bed::new();
    add_blue(&bed);
    let service = in_blue_all_over(&bed, Version::V2_6);
    let exporter =
        Exporter::launched(&bed, without_sys_admin(&bed), "defaults: {stale_grace: 1s}\n");
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@blue"], "{}", page.brief());
    assert!(page.is("haproxy_host_up", &[], 1.0), "{}", page.brief());
    assert!(page.is("haproxy_host_unreadable", &[("what", "namespace")], 1.0), "{}", page.brief());
    assert_eq!(page.all("haproxy_host_listen_queue_limit", &[]).count(), 0, "{}", page.brief());
    for kind in ["port_ephemeral", "port_backlog"] {
        let series = page.all("haproxy_host_anomalies", &[("kind", kind)]).count();
        assert_eq!(series, 0, "{kind} cannot be known: {}", page.brief());
    }
    // The process through which it was read ends.
    service.reload();
    let page = exporter.await_samples(7);
    assert_eq!(bound(&page), ["8001@blue"], "{}", page.brief());
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
}

fn in_blue_all_over(bed: &Bed, version: Version) -> Service<'_> {
    let mut service = Service::new(bed, version, Manner::Daemon);
    service.wrapper = ["ip", "netns", "exec", "blue"].map(str::to_owned).to_vec();
    service.configure(&listeners(&[8001])).start();
    service
}

/// The exporter as root without the one right it needs to enter a namespace.
fn without_sys_admin(bed: &Bed) -> Command {
    let mut command = bed.command(tool("setpriv"));
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"]);
    command.arg(Exporter::binary());
    command
}
