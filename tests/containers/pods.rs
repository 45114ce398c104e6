//! HAProxy in pods: seen from another container by its pod's name, and watched by the pods of deploy/.

use std::path::PathBuf;

use super::manifest::{Manifest, render};
use super::podman::{Podman, RIGHTS};
use super::support::proxies::listeners;
use super::support::*;
use super::{HOST, haproxy_root};

/// Bit of the right to signal any process, in the capabilities of /proc/PID/status.
const KILL: u64 = 1 << 5;
const AGENT: &str = "/opt/cloud/workspace/lbagent";

/// A HAProxy in a container, without network, with the host name of a pod.
fn start_pod(podman: &Podman<'_>, name: &str, host_name: &str, root: &str) {
    podman.run(&[
        "run",
        "-d",
        "--name",
        name,
        "--hostname",
        host_name,
        // Every container of Kubernetes has it; only there a suffix was generated.
        "--env=KUBERNETES_SERVICE_HOST=10.96.0.1",
        "--network=none",
        "--tmpfs=/run",
        "--rootfs",
        root,
        "/usr/sbin/haproxy",
        "-W",
        "-p",
        "/run/h.pid",
        "-f",
        "/etc/h.cfg",
    ]);
}

/// A HAProxy in another container, named after its pod, whose files only it sees; and the same where the exporter has
/// the host's /proc at /host/proc instead of its pid namespace.
#[test]
fn it_sees_a_haproxy_in_another_container() {
    let bed = Bed::new();
    let podman = Podman::new(&bed);
    let root = haproxy_root(&bed);
    bed.shell(&format!("cp {} {root}/etc/h.cfg", three_listeners(&bed).display()));
    start_pod(&podman, "pod", "lbagent-7c9f8d6b5-x2x4z", &root);
    let volumes = ["--volume=/proc:/host/proc:ro", "--volume=/sys:/host/sys:ro"];
    let paths = ["serve", "--path.procfs=/host/proc", "--path.sysfs=/host/sys"];
    let ways: [(&str, Vec<&str>, &[&str]); 2] = [
        ("pid", [&HOST[..], &RIGHTS].concat(), &[]),
        ("proc", [&HOST[1..], &RIGHTS, &volumes].concat(), &paths),
    ];
    for (name, flags, arguments) in ways {
        podman.start(name, &flags, arguments);
        let page = podman.await_page(name, "lbagent", |page| {
            page.is("haproxy_host_up", &[("haproxy", "lbagent")], 1.0)
        });
        let tcp = [("haproxy", "lbagent"), ("protocol", "tcp")];
        let declared = page.value("haproxy_host_declared_ports", &tcp);
        assert_eq!(declared, Some(3.0), "{name}: {}", page.brief());
        assert_eq!(page.sum("haproxy_host_bound_ports", &tcp), 3.0, "{name}: {}", page.brief());
        podman.remove(name);
    }
}

fn three_listeners(bed: &Bed) -> PathBuf {
    let text = format!("defaults\n    timeout connect 5s\n{}", listeners(&[8001, 8002, 8003]));
    bed.write("h.cfg", &text)
}

/// Two pods of one name on a node, with the same paths in both. Each keeps its name when Kubernetes replaces one of them,
/// and the suffix that it generates is part of neither.
#[test]
fn two_pods_of_one_name_are_told_apart_and_keep_their_names() {
    let bed = Bed::new();
    let podman = Podman::new(&bed);
    let root = haproxy_root(&bed);
    bed.shell(&format!("cp {} {root}/etc/h.cfg", three_listeners(&bed).display()));
    start_pod(&podman, "a", "lbagent-7c9f8d6b5-x2x4z", &root);
    start_pod(&podman, "b", "lbagent-7c9f8d6b5-9kq2p", &root);
    podman.start("exporter", &[&HOST[..], &RIGHTS].concat(), &[]);
    let up = |page: &Page| page.sum("haproxy_host_up", &[]) == 2.0;
    let names = podman.await_page("exporter", "both", up).haproxys();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains("lbagent"), "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("lbagent")), "{names:?}");
    assert!(names.iter().all(|name| !name.contains("7c9f8d6b5")), "{names:?}");
    for (name, host_name) in [("b", "lbagent-7c9f8d6b5-7xw8d"), ("a", "lbagent-66b4d7c9fd-m4tgn")] {
        podman.remove(name);
        podman.await_page("exporter", "one", |page| page.sum("haproxy_host_up", &[]) == 1.0);
        start_pod(&podman, name, host_name, &root);
        let page = podman.await_page("exporter", "both again", up);
        assert_eq!(page.haproxys(), names, "after a new {name}: {}", page.brief());
    }
}

/// The rights that a process has in effect.
fn rights(bed: &Bed, pid: i32) -> u64 {
    let status = bed.process_file(pid, "status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Starts a daemon as a reload does that has lost its predecessor.
fn exec_daemon(podman: &Podman<'_>, container: &str, arguments: &[&str]) {
    podman.run(&[&["exec", container, "/usr/sbin/haproxy", "-D"], arguments].concat());
}

/// The containers of the overlay for Cloudpods, with the flags that its manifest asks for, beside an lbagent with its
/// real paths, which listens inside and outside of the range of node ports.
#[test]
fn the_overlay_for_cloudpods_watches_lbagent() {
    let manifest = render("deploy/cloudpods/kubernetes", "DaemonSet");
    let bed = Bed::new();
    bed.shell("ip address add 169.254.0.107/32 dev lo");
    let podman = Podman::new(&bed);
    let root = haproxy_root(&bed);
    let folder = format!("{AGENT}/haproxy");
    bed.shell(&format!(
        "mkdir -p {root}{folder} {root}{AGENT}/run && cp $(command -v catatonit) {root}/usr/bin/
         printf 'defaults\\n    mode tcp\\n    timeout connect 5s\\n    timeout client 5s\\n    timeout server 5s\\n\
         listen one\\n    bind 169.254.0.107:30885\\n    bind 169.254.0.107:20000\\n    server none 127.0.0.1:9\\n' \
         >{root}{folder}/lb.cfg"
    ));
    let run = ["run", "-d", "--name=lbagent", "--hostname=default-lbagent-x2x4z", "--network=host"];
    podman.run(&[&run[..], &["--rootfs", &root, "/usr/bin/catatonit", "-P"]].concat());
    let pidfile = format!("{AGENT}/run/haproxy.pid");
    exec_daemon(&podman, "lbagent", &["-p", &pidfile, "-C", &folder, "-f", &folder]);
    for name in ["exporter", "reap"] {
        let (flags, arguments) = manifest.flags(&bed, name);
        podman.start(name, &words(&flags), &words(&arguments));
    }
    let labels = [("haproxy", "lbagent"), ("kind", "port_out_of_range")];
    let page = podman.await_page("exporter", "lbagent and its reaper", |page| {
        page.is("haproxy_host_anomalies", &labels, 1.0)
            && page.is("haproxy_host_reap_last_run_success", &[], 1.0)
    });
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    let blamed: Vec<&str> =
        page.all("haproxy_host_anomaly_info", &labels).map(|sample| sample.label("port")).collect();
    assert_eq!(blamed, ["30885"], "{}", page.brief());
    let state = bed.inside(|| fetch("127.0.0.1:10101", "/state.json")).unwrap();
    schema::assert_fits("inspect", &serde_json::from_str(&state).unwrap());
    assert!(state.contains("Kubernetes NodePort"), "{state}");
    assert_eq!(rights(&bed, podman.pid_of("exporter")) & KILL, 0);
    assert_eq!(rights(&bed, podman.pid_of("reap")) & KILL, KILL);
}

/// The pod of the example, with the exporter and the reaper beside a HAProxy of another user, played by podman: the
/// reaper, once it may, ends what a reload has left behind, and the exporter shows it.
#[test]
fn the_sidecar_reaps_in_its_pod() {
    let mut manifest = render("deploy/kubernetes/examples/sidecar", "Deployment");
    let bed = Bed::new();
    let podman = Podman::new(&bed);
    podman.stand_in_for(&["docker.io/library/haproxy:3.2"]);
    let state = prepare(&bed, &mut manifest);
    let pod = "haproxy-7c9f8d6b5-x2x4z";
    bed.write("pod.yaml", &manifest.documents(pod));
    podman.run(&["kube", "play", "pod.yaml"]);
    let container = |name: &str| format!("{pod}-{name}");
    let (exporter, haproxy) = (container("haproxy-host-exporter"), container("haproxy"));
    podman.await_page(&exporter, "the haproxy", |page| {
        page.is("haproxy_host_up", &[("haproxy", "haproxy")], 1.0)
    });
    let arguments = ["-p", "/tmp/h.pid", "-f", "/usr/local/etc/haproxy/haproxy.cfg"];
    exec_daemon(&podman, &haproxy, &arguments);
    exec_daemon(&podman, &haproxy, &[&arguments[..], &["-sf", "99999"]].concat());
    let page = podman.await_page(&exporter, "a step", |page| {
        page.sum("haproxy_host_reap_steps_total", &[]) > 0.0
    });
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    assert_eq!(rights(&bed, podman.pid_of(&exporter)) & KILL, 0);
    assert_eq!(rights(&bed, podman.pid_of(&container("haproxy-host-reap"))) & KILL, KILL);
    assert_eq!(bed.shell(&format!("stat -c %a {state}")).trim(), "755");
}

/// What an operator would set: a policy, and `--execute`; and what podman has no other way to do.
fn prepare(bed: &Bed, manifest: &mut Manifest) -> String {
    manifest.replace_file(
        "config.yaml",
        "defaults: {stale_grace: 1s, reap: {listening: 1s, idle: 1s}}\n",
    );
    // The bed has no bridge, and podman publishes no ports without one.
    manifest.pod["spec"]["hostNetwork"] = true.into();
    for name in ["haproxy", "haproxy-host-exporter"] {
        manifest.container(name).as_mapping_mut().unwrap().remove("ports");
    }
    let reaper = manifest.container("haproxy-host-reap");
    reaper["args"].as_sequence_mut().unwrap().push("--execute".into());
    // Its image has catatonit as its first program.
    let haproxy = manifest.container("haproxy");
    haproxy["command"] = serde_yaml::from_str(
        "[/usr/sbin/haproxy, -W, -db, -f, /usr/local/etc/haproxy/haproxy.cfg]",
    )
    .unwrap();
    // Every container of Kubernetes has it; only there a suffix was generated.
    haproxy["env"] =
        serde_yaml::from_str("[{name: KUBERNETES_SERVICE_HOST, value: 10.96.0.1}]").unwrap();
    haproxy["securityContext"] = serde_yaml::from_str("{runAsUser: 99, runAsGroup: 99}").unwrap();
    manifest.replace_empty_directory(bed, "haproxy-host-reap")
}
