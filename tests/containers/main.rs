//! The image: the last stage of deploy/container/Containerfile, built by buildah around a static binary and run by podman;
//! the pods of deploy/kubernetes and the stack of deploy/container/compose.yaml with it.
//!
//! A bed is the host: `--pid host` and `--network host` are the bed's, so that no other HAProxy of the machine is seen. The
//! first stage of the Containerfile compiles in an image that no registry is asked for here; the same command is run outside.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

mod manifest;
mod podman;
mod pods;
mod stack;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Instant;

use podman::{NAME, Podman, RIGHTS, binary, released, root, succeed};
use serde_json::Value;
use support::proxies::listeners;
use support::*;

const HOST: [&str; 4] = ["--pid=host", "--network=host", "--read-only", "--cap-drop=all"];
/// The most bytes of an image with the released program.
const LARGEST_BYTES: u64 = 12 << 20;

fn haproxy(bed: &Bed) -> Service<'_> {
    let service = Service::new(bed, Version::V3_0, Manner::Daemon);
    service.configure(&listeners(&[8001, 8002])).start();
    service
}

/// The root of a HAProxy in a container, which may be written to.
fn haproxy_root(bed: &Bed) -> String {
    let place = bed.directory().join("rootfs").display().to_string();
    bed.shell(&format!(
        "mkdir {place} && mount -t tmpfs none {place} && mkdir {place}/upper {place}/work {place}/all && mount -t overlay \
         -o lowerdir={from},upperdir={place}/upper,workdir={place}/work none {place}/all",
        from = installed("haproxy/3.0/root").display()
    ));
    format!("{place}/all")
}

/// What is in the image, and what it says of itself.
#[test]
fn the_image_is_one_static_program() {
    let bed = Bed::new();
    let podman = Podman::new(&bed);
    let headers = succeed(Command::new(tool("readelf")).arg("-lW").arg(binary()));
    assert!(!text(&headers.stdout).contains("INTERP"), "it asks for a loader");
    let inspected: Value = serde_json::from_str(&podman.run(&["image", "inspect", NAME])).unwrap();
    let image = &inspected[0];
    let size = image["Size"].as_u64().unwrap();
    assert!(size < LARGEST_BYTES || released().is_none(), "{size} bytes");
    assert_eq!(image["User"], "65534:65534");
    assert_eq!(image["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
    let check = ["CMD", "/usr/bin/haproxy-host-exporter", "healthcheck"];
    assert_eq!(image["Healthcheck"]["Test"], serde_json::json!(check));
    let files = podman.run(&["create", "--name", "files", NAME]);
    assert!(!files.is_empty());
    podman.run(&["export", "-o", "files.tar", "files"]);
    let listed = bed.shell(
        "tar -tf files.tar | grep -v '/$' | grep -v '^dev/\\|^etc/\\|^proc/\\|^run/\\|^sys/' || true",
    );
    assert_eq!(listed.trim(), "usr/bin/haproxy-host-exporter");
}

/// As the first process of a container it ends at SIGTERM; a process that did not handle it would be killed, which is 137.
#[test]
fn it_ends_at_sigterm_as_pid_1_and_says_its_health() {
    let bed = Bed::new();
    let podman = Podman::new(&bed);
    podman.start("alone", &["--network=host", "--read-only", "--cap-drop=all"], &[]);
    await_true("its health", || {
        podman.command(&["healthcheck", "run", "alone"]).output().unwrap().status.success()
    });
    let asked = Instant::now();
    podman.run(&["stop", "-t", "10", "alone"]);
    println!("podman stop took {:?}", asked.elapsed());
    let state: Value = serde_json::from_str(&podman.run(&["inspect", "alone"])).unwrap();
    assert_eq!(state[0]["State"]["ExitCode"], 0, "{}", podman.logs("alone"));
}

/// With its rights it sees a HAProxy of the host as an exporter on the host does; without one of them it says which is
/// missing, and claims nothing.
#[test]
fn it_sees_the_host_or_says_what_is_missing() {
    let bed = Bed::new();
    let service = haproxy(&bed);
    let podman = Podman::new(&bed);
    for user in ["65534:65534", "0:0"] {
        podman.start("full", &[&HOST[..], &RIGHTS, &["--user", user]].concat(), &[]);
        let page =
            podman.await_page("full", "the haproxy", |page| page.is("haproxy_host_up", &[], 1.0));
        assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{user}: {}", page.brief());
        assert_eq!(page.sum("haproxy_host_bound_ports", &[]), 2.0, "{user}: {}", page.brief());
        podman.remove("full");
    }
    let table: [(&str, &[&str], &[&str]); 3] = [
        ("no SYS_PTRACE", &RIGHTS[1..], &["CAP_SYS_PTRACE"]),
        ("no DAC_READ_SEARCH", &RIGHTS[..1], &["CAP_DAC_READ_SEARCH"]),
        ("neither", &[], &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]),
    ];
    for (what, rights, missing) in table {
        podman.start("less", &[&HOST[..], rights].concat(), &[]);
        let page =
            podman.await_page("less", what, |page| page.sum("haproxy_host_unreadable", &[]) > 0.0);
        assert_eq!(page.value("haproxy_host_up", &[]), None, "{what}: {}", page.brief());
        assert!(page.anomalies().is_empty(), "{what}: {}", page.brief());
        let logs = podman.remove("less");
        for right in missing {
            assert!(logs.contains(right), "{what}: {logs}");
        }
    }
    // Without the pid namespace of the host there is no HAProxy to be seen.
    podman.start("blind", &[&HOST[1..], &RIGHTS].concat(), &[]);
    podman.await_page("blind", "no haproxy", |page| page.is("haproxy_host_haproxys", &[], 0.0));
    podman.remove("blind");
    assert!(bed.listens(service.serving()));
}

/// The Containerfile has no fault that hadolint knows.
#[test]
fn the_containerfile_is_clean() {
    let hadolint = installed("containers/python/bin/hadolint");
    succeed(Command::new(hadolint).arg(root().join("deploy/container/Containerfile")));
}
