//! The exporter claims nothing about what it may not see, and does not read what it does not need.

use std::collections::BTreeSet;
use std::fs;

use super::proxies::{ECHO, WAITING_ROOM, WAITING_ROOM_ADDRESS, something_wrong, stale};
use crate::support::*;

/// Others' processes cannot be read: that is said, and nothing is judged that rests on it.
#[test]
fn without_rights() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure(WAITING_ROOM);
    let old = service.start();
    let _flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, old);
    service.reload();
    let exporter =
        Exporter::launched(&bed, Exporter::as_nobody(&bed), "defaults: {stale_grace: 1s}\n");
    let recorder = exporter.record();
    let page = exporter.await_samples(8);
    assert!(
        page.value("haproxy_host_unreadable", &[("what", "descriptors")]).unwrap() >= 2.0,
        "{}",
        page.brief()
    );
    recorder.never("an anomaly", something_wrong);
    recorder.never("a process called idle", |page| page.stale("idle") > 0.0);
    recorder.never("a haproxy called down", |page| {
        page.all("haproxy_host_up", &[]).any(|up| up.value == 0.0)
    });
    recorder.never("a verdict on listeners it cannot attribute", |page| {
        ["port_stale_listener", "port_split", "process_idle"]
            .iter()
            .any(|kind| page.all("haproxy_host_anomalies", &[("kind", kind)]).next().is_some())
    });
    recorder.never("zero ports bound", |page| {
        page.all("haproxy_host_bound_ports", &[("generation", "current")])
            .any(|bound| bound.value == 0.0)
    });
    // Named once, not with every sample.
    let log = exporter.running.log();
    let said =
        log.lines().filter(|line| line.contains("CAP_") || line.contains("unreadable")).count();
    // Two rights that are missing, and five kinds of things that are hidden by that.
    assert!((1..=7).contains(&said), "{said} lines about it:\n{log}");

    let output = Exporter::as_nobody(&bed).args(["inspect", "--output", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("CAP_"),
        "says which right is missing: {}",
        text(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_fits("inspect", &report);
    assert!(!report["unreadable"].as_array().unwrap().is_empty(), "{report}");
}

/// A sandbox that refuses netlink sockets: the tables of procfs have the TCP listeners, while they do not
/// show which UDP sockets are listeners.
#[test]
fn without_netlink() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Master);
    let log = "    log 127.0.0.1:514 local0\n    option tcplog\n";
    service.configure(&format!("{WAITING_ROOM}{ECHO}{log}"));
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let old = service.start();
    let _flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, old);
    service.reload();
    // A connection that ends is logged, which opens the log's socket.
    drop(Flow::echoing(&bed, "127.0.0.1:8002"));
    await_true("the log socket", || bed.shell("ss -Huanp").contains("haproxy"));
    let refuse = "import os, seccomp, socket, sys
rules = seccomp.SyscallFilter(seccomp.ALLOW)
netlink = seccomp.Arg(0, seccomp.EQ, socket.AF_NETLINK)
rules.add_rule(seccomp.ERRNO(1), 'socket', netlink)
rules.load()
os.execv(sys.argv[1], sys.argv[1:])
";
    let mut command = bed.command(installed("python/bin/python3"));
    command.args(["-c", refuse]).arg(Exporter::binary());
    let exporter = Exporter::launched(&bed, command, "defaults: {stale_grace: 1s}\n");
    let recorder = exporter.record();
    let page = exporter.await_samples(8);
    assert!(page.is("haproxy_host_up", &[], 1.0), "{}", page.brief());
    assert!(
        page.is("haproxy_host_bound_ports", &[("protocol", "tcp"), ("generation", "current")], 2.0),
        "{}",
        page.brief()
    );
    assert!(
        page.value("haproxy_host_unreadable", &[("what", "sockets")]).unwrap() >= 1.0,
        "{}",
        page.brief()
    );
    assert_eq!(
        page.all("haproxy_host_bound_ports", &[("protocol", "udp")]).count(),
        0,
        "unknown is not 0: {}",
        page.brief()
    );
    recorder.never("an anomaly", something_wrong);
}

/// While nothing is stale no table of connections is read, and only `HAProxy`'s descriptors are
/// listed; with a stale process its connections are asked for.
#[test]
fn looks_at_no_more_than_it_needs() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Master);
    service.configure(WAITING_ROOM);
    let worker = service.start();
    let trace = bed.directory().join("trace");
    let mut command = bed.command(tool("strace"));
    command
        .args([
            "-f",
            "-y",
            "-s",
            "256",
            "-e",
            "trace=open,openat,openat2,sendto,sendmsg,write",
            "-o",
        ])
        .arg(&trace)
        .arg(Exporter::binary());
    let exporter = Exporter::launched(&bed, command, "defaults: {stale_grace: 1s}\n");
    exporter.await_samples(5);
    let seen = fs::read_to_string(&trace).unwrap();
    let tables = tables_of_connections(&seen);
    assert!(tables.is_empty(), "{tables:#?}");
    let listed = descriptor_directories(&seen);
    // The exporter counts its own for its own metrics.
    let haproxys: BTreeSet<i32> =
        bed.pids_of("haproxy").into_iter().chain(bed.pids_of("haproxy-host-ex")).collect();
    assert!(!listed.is_empty(), "the trace shows no descriptors at all:\n{seen}");
    assert!(listed.is_subset(&haproxys), "listed {listed:?}, may list {haproxys:?}");

    let _flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, worker);
    service.reload();
    exporter.await_page("one draining", |page| stale(page) == 1.0 && page.stale("draining") == 1.0);
    let seen = fs::read_to_string(&trace).unwrap();
    assert!(!tables_of_connections(&seen).is_empty(), "the trace would have shown it");
}

/// Lines of a trace that ask the kernel for TCP connections, not only for listeners.
fn tables_of_connections(trace: &str) -> Vec<&str> {
    trace
        .lines()
        .filter(|line| {
            let dump = line.contains("SOCK_DIAG_BY_FAMILY")
                && line.contains("IPPROTO_TCP")
                && !line.contains("idiag_states=1<<TCP_LISTEN,");
            let table =
                line.contains("open") && (line.contains("/tcp\"") || line.contains("/tcp6\""));
            dump || table
        })
        .collect()
}

/// The pids whose descriptor directory a trace shows opened, by path or from the process's own.
fn descriptor_directories(trace: &str) -> BTreeSet<i32> {
    trace
        .lines()
        .filter(|line| line.contains("open") && !line.contains("ENOENT"))
        .filter_map(|line| {
            let (before, path) = line.split_once('"')?;
            let (path, _) = path.split_once('"')?;
            let whole = if path.starts_with('/') {
                path.to_owned()
            } else {
                let (_, directory) = before.rsplit_once('<')?;
                format!("{}/{path}", directory.split('>').next()?)
            };
            let mut parts = whole.strip_prefix("/proc/")?.split('/');
            let pid = parts.next()?.parse().ok()?;
            (parts.next() == Some("fd") && parts.next().is_none_or(str::is_empty)).then_some(pid)
        })
        .collect()
}
