//! `HAProxy`s in containers and chroots, and an exporter in a container that watches its host.

use std::collections::BTreeSet;

use serde_json::Value;

use super::proxies::{WAITING_ROOM, listeners, something_down, something_wrong, stale};
use crate::support::*;

for_each_version! {
    daemon_in_a_container => daemon_in_a_container;
}

/// A daemon in a container: its pidfile and its `-sf` have the pids of its own pid namespace, and only it
/// sees its files. An ordinary HAProxy on the host has the pid that they name.
fn daemon_in_a_container(version: Version) {
    let bed = Bed::new();
    // Pids that a young container has not assigned yet.
    bed.shell("echo 500 >/proc/sys/kernel/ns_last_pid");
    let decoy = Service::named(&bed, version, Manner::Daemon, "decoy");
    let same = decoy.configure(WAITING_ROOM).start();
    let container = Container::start(&bed, "pod");
    let configuration =
        |ports: &[u16]| format!("defaults\n    timeout connect 5s\n{}", listeners(ports));
    container.write("/run/lb.cfg", &configuration(&[8001, 8002]));
    let binary = version.binary().display().to_string();
    // The launcher takes over the shell's pid, and uses up one more before it forks the daemon.
    let first = format!("echo {} >/proc/sys/kernel/ns_last_pid", same - 2);
    container.shell(&format!("{first} && exec {binary} -D -p /run/lb.pid -f /run/lb.cfg"));
    assert_eq!(container.shell("cat /run/lb.pid").trim(), same.to_string(), "the pid of the decoy");
    let reload = format!("exec {binary} -D -p /run/lb.pid -f /run/lb.cfg -sf $(cat /run/lb.pid)");

    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    let names: BTreeSet<String> = ["haproxy", "lb"].map(str::to_owned).into();
    assert_eq!(page.haproxys(), names, "{}", page.brief());
    let tcp = [("haproxy", "lb"), ("protocol", "tcp")];
    assert_eq!(page.value("haproxy_host_declared_ports", &tcp), Some(2.0), "{}", page.brief());
    assert_eq!(page.sum("haproxy_host_bound_ports", &tcp), 2.0, "{}", page.brief());
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    let pidfile = [("haproxy", "lb"), ("pidfile", "/run/lb.pid"), ("mode", "daemon")];
    assert!(page.is("haproxy_host_info", &pidfile, 1.0), "{}", page.brief());

    container.shell(&reload);
    exporter.await_page("the reload", |page| {
        page.is("haproxy_host_reloads_total", &[("haproxy", "lb"), ("result", "success")], 1.0)
            && stale(page) == 0.0
    });
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
    recorder.never("another name", |page| page.haproxys() != names);
    recorder.never("a stale process of the one on the host", |page| {
        page.sum("haproxy_host_stale_processes", &[("haproxy", "haproxy")]) > 0.0
    });

    // A daemon that was not told to stop, and a pidfile that names another one.
    let current = container.shell("cat /run/lb.pid").trim().to_owned();
    container.shell(&format!("exec {binary} -D -p /run/lb.pid -f /run/lb.cfg -sf"));
    exporter.await_page("two that listen", |page| page.anomalies_are(&["port_split"]));
    container.shell(&format!("kill -USR1 {current}"));
    exporter.await_page("one that listens", |page| page.anomalies_are(&[]));
    let right = container.shell("cat /run/lb.pid");
    container.write("/run/lb.pid", "1\n");
    exporter.await_page("the mismatch", |page| page.anomalies_are(&["pidfile_mismatch"]));
    container.write("/run/lb.pid", &right);
    exporter.await_page("its end", |page| page.anomalies_are(&[]));
    container.write("/run/lb.cfg", &configuration(&[8001]));
    container.shell(&reload);
    exporter.await_page("another reload", |page| {
        page.is("haproxy_host_declared_ports", &tcp, 1.0)
            && page.sum("haproxy_host_bound_ports", &tcp) == 1.0
    });
    recorder.never("a haproxy down", something_down);
}

/// Started within the root of another system: names and paths mean what they mean there.
#[test]
fn started_in_a_chroot() {
    let bed = Bed::new();
    let root = bed.directory().join("root");
    let from = installed("haproxy/3.0/root");
    let mut service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    bed.shell(&format!(
        "mkdir -p /run/netns {root} && mount -t tmpfs none /run/netns && ip netns add blue && \
         mount -t tmpfs none {root} && mkdir {root}/upper {root}/work && \
         mount -t overlay -o lowerdir={from},upperdir={root}/upper,workdir={root}/work none {root} && \
         mkdir -p {root}/proc {root}/var/run/netns && mount -t proc none {root}/proc && \
         mount --bind {service} {root}/tmp && mount --rbind /run/netns {root}/var/run/netns",
        root = root.display(),
        from = from.display(),
        service = service.path("").display(),
    ));
    service.wrapper = ["chroot", &root.display().to_string()].map(str::to_owned).to_vec();
    service.binary = "/usr/sbin/haproxy".into();
    service.arguments =
        ["-p", "/tmp/haproxy.pid", "-f", "/tmp/haproxy.cfg"].map(str::to_owned).to_vec();
    let there = "    bind 127.0.0.1:8001 namespace blue\n";
    service
        .configure_raw(&format!("defaults\n    timeout connect 5s\n{}{there}", listeners(&[8001])));
    service.start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    let places = page.label_values("haproxy_host_port_info", "netns");
    assert_eq!(places.into_iter().collect::<Vec<_>>(), ["", "blue"]);
    assert_eq!(page.value("haproxy_host_declared_ports", &[("protocol", "tcp")]), Some(2.0));
    service.reload();
    exporter.await_page("the reload", |page| {
        page.is("haproxy_host_reloads_total", &[("result", "success")], 1.0) && stale(page) == 0.0
    });
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
}

/// In a container with the host's /proc and /sys mounted the exporter says what it says on the host.
#[test]
fn an_exporter_in_a_container() {
    let bed = Bed::new();
    bed.shell(
        "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip netns add blue && \
         ip -n blue link set lo up",
    );
    let host = text(&bed.run("hostname", &[]).stdout).trim().to_owned();
    let service = Service::new(&bed, Version::V3_2, Manner::Master);
    let more = format!(
        "    bind 127.0.0.1:8001 namespace blue\n\npeers p\n    peer {host} 127.0.0.1:8020\n"
    );
    service.configure(&format!("{}{more}", listeners(&[8001]))).start();
    let pod = Container::start(&bed, "pod");
    let text_of_pod = format!(
        "defaults\n    timeout connect 5s\n{}\npeers p\n    peer pod 127.0.0.1:8021\n",
        listeners(&[8001, 8002])
    );
    pod.write("/run/lb.cfg", &text_of_pod);
    let binary = Version::V2_6.binary().display().to_string();
    pod.shell(&format!("{binary} -D -p /run/lb.pid -f /run/lb.cfg"));

    let volumes = [("/proc", "/run/host/proc"), ("/sys", "/run/host/sys")];
    let container = Container::with_volumes(&bed, "exporter", &volumes);
    let paths = ["--path.procfs=/run/host/proc", "--path.sysfs=/run/host/sys"];
    let inspect = |command: &mut std::process::Command| {
        let output = command.args(["inspect", "--output", "json"]).output().unwrap();
        let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
        schema::assert_fits("inspect", &report);
        forget_times(&mut report);
        (report, output.status.code(), text(&output.stderr))
    };
    let here = inspect(&mut bed.command(Exporter::binary()));
    let there = inspect(container.command(Exporter::binary()).args(paths));
    assert_eq!(format!("{:#}", there.0), format!("{:#}", here.0));
    assert_eq!((there.1, there.2), (here.1, here.2));
    assert_eq!(here.0["haproxys"].as_array().unwrap().len(), 2, "{:#}", here.0);

    // Without the right to enter, the host's network is seen through procfs.
    let mut command = container.command(tool("setpriv"));
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"]);
    let poorer = inspect(command.arg(Exporter::binary()).args(paths));
    assert_eq!(poorer.1, Some(3), "{}", poorer.2);
    let listed = poorer.0["haproxys"][0]["ports"].as_array().unwrap();
    let own: Vec<_> = listed.iter().map(|port| (&port["port"], &port["netns"])).collect();
    assert_eq!(own, [(&8001.into(), &"".into()), (&8020.into(), &"".into())], "{:#}", poorer.0);

    let on_the_host = Exporter::start(&bed);
    let mut command = container.command(Exporter::binary());
    command.args(paths).args(["--sample.interval", SAMPLE_INTERVAL]);
    let running = container.start_command(command, "contained.log");
    let from_within = await_some("its page", || {
        let fetch = ["curl", "-s", "--fail", "http://127.0.0.1:10101/metrics"].join(" ");
        let answer = container.command("sh").args(["-c", &fetch]).output().unwrap();
        answer.status.success().then(|| Page::parse(&text(&answer.stdout)).unwrap())
    });
    let page = on_the_host.await_samples(3);
    assert_eq!(series(&from_within), series(&page), "{}", running.log());
    assert_eq!(from_within.sum("haproxy_host_unreadable", &[]), 0.0, "{}", from_within.brief());
    let tcp = |page: &Page| page.sum("haproxy_host_declared_ports", &[("protocol", "tcp")]);
    // The local peer is called as its host is: both hosts' names are known.
    assert_eq!((tcp(&from_within), tcp(&page)), (6.0, 6.0), "{}", from_within.brief());
}

/// A container has names for network namespaces that the host does not know.
#[test]
fn names_of_a_container() {
    let bed = Bed::new();
    let pod = Container::start(&bed, "pod");
    pod.shell("ip netns add green");
    let there = "    bind 127.0.0.1:8001 namespace green\n";
    let frontend = listeners(&[8001]);
    pod.write("/run/lb.cfg", &format!("defaults\n    timeout connect 5s\n{frontend}{there}"));
    let binary = Version::V3_0.binary().display().to_string();
    pod.shell(&format!("{binary} -D -p /run/lb.pid -f /run/lb.cfg"));
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    let places = page.label_values("haproxy_host_port_info", "netns");
    assert!(places.len() == 2 && places.contains("green"), "{places:?}");
    recorder.never("an anomaly", something_wrong);

    // What would be bound there is judged there.
    let check = || Exporter::command(&bed, &["check", "--haproxy", "lb"]);
    let free = check();
    assert_eq!(free.status.code(), Some(0), "{}{}", text(&free.stdout), text(&free.stderr));
    let thief = "exec ip netns exec green socat TCP-LISTEN:8005,bind=127.0.0.1,fork /dev/null";
    let mut command = pod.command("sh");
    command.args(["-c", thief]);
    let _thief = pod.start_command(command, "socat.log");
    let more = format!("{there}    bind 127.0.0.1:8005 namespace green\n");
    pod.write("/run/lb.cfg", &format!("defaults\n    timeout connect 5s\n{frontend}{more}"));
    exporter.await_page("a blocked port", |page| page.anomalies_are(&["port_blocked"]));
    let blocked = check();
    assert_eq!(
        blocked.status.code(),
        Some(1),
        "{}{}",
        text(&blocked.stdout),
        text(&blocked.stderr)
    );
    assert!(text(&blocked.stdout).contains("port_blocked"), "{}", text(&blocked.stdout));
}

/// A name that was made by hand: a link to the network of a process, as of a container's.
#[test]
fn a_container_by_a_name_of_the_host() {
    let bed = Bed::new();
    let pod = Container::start(&bed, "pod");
    bed.shell(&format!(
        "mkdir -p /run/netns && mount -t tmpfs none /run/netns && \
         ln -s /proc/{}/ns/net /run/netns/pod",
        pod.init
    ));
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    let there = "    bind 127.0.0.1:8002 namespace pod\n";
    service.configure(&format!("{}{there}", listeners(&[8001]))).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_samples(7);
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    let port = [("port", "8002"), ("netns", "pod")];
    assert!(page.is("haproxy_host_port_info", &port, 1.0), "{}", page.brief());
    assert_eq!(page.value("haproxy_host_declared_ports", &[("protocol", "tcp")]), Some(2.0));
    recorder.never("an anomaly", something_wrong);
}

/// Start times are reckoned from a clock that moves a little between two looks.
fn forget_times(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !key.ends_with("_timestamp"));
            object.values_mut().for_each(forget_times);
        }
        Value::Array(array) => array.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// Names and labels of all that is said of `HAProxy`s.
fn series(page: &Page) -> BTreeSet<String> {
    let of_haproxys = page.samples.iter().filter(|sample| sample.labels.contains_key("haproxy"));
    of_haproxys.map(|sample| Sample { value: 0.0, ..sample.clone() }.to_string()).collect()
}
