//! The shipped unit in a booted systemd, beside Debian's own HAProxy and its unit.
//!
//! `systemd-analyze` only scores a unit; a booted systemd shows what its sandbox forbids. The test needs
//! root, systemd-nspawn and the system that tests/install put under `tests/.cache/systemd/`: Debian 13
//! unless `SYSTEMD_SUITE` says otherwise. The same in Debian 12, from the project's root:
//!
//! ```sh
//! SYSTEMD_SUITE=bookworm tests/install && SYSTEMD_SUITE=bookworm cargo test --test systemd
//! ```
//!
//! `SYSTEMD_BINARY` names another binary of the exporter than the one that cargo has just built.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

mod cgroup;
mod container;
#[allow(dead_code)] // the test of the packages uses the rest
mod machine;
#[path = "../support/mod.rs"]
mod support;

use machine::{EXPORTER, Machine};
use support::Page;

/// A frontend for the end of a configuration; Debian's own has none.
const FRONTEND: &str = "frontend web\n    bind :8080\n    http-request return status 200\n";

/// The configuration of the services that are not Debian's.
const EDGE: &str = "defaults\n    mode http\n    timeout connect 5s\n    timeout client 1h\n    \
     timeout server 1h\nfrontend edge\n    bind :8081\n    http-request return status 200\n";

/// A HAProxy that forks into the background and is reloaded by its successor.
const FORKING_UNIT: &str = "\
[Service]
Type=forking
RuntimeDirectory=edge
PIDFile=/run/edge/haproxy.pid
ExecStart=/usr/sbin/haproxy -D -f /etc/edge/edge.cfg -p /run/edge/haproxy.pid
ExecReload=/usr/sbin/haproxy -D -f /etc/edge/edge.cfg -p /run/edge/haproxy.pid -sf $MAINPID
Restart=on-failure
";

/// A HAProxy in a network namespace of its own.
const INNER_UNIT: &str = "\
[Service]
Type=notify
PrivateNetwork=yes
ExecStart=/usr/sbin/haproxy -Ws -f /etc/edge/edge.cfg -p /run/inner.pid
";

const DEBIANS_CONFIGURATION: &str = "/etc/haproxy/haproxy.cfg";
const SETTINGS: &str = "/etc/default/haproxy-host-exporter";
const CONFIGURATION: &str = "/etc/haproxy-host-exporter/config.yaml";
const DROP_INS: &str = "/etc/systemd/system/haproxy-host-exporter.service.d";

/// Short intervals, so that a grace can be waited for, and a configuration of the exporter's own.
const FAST: &str = "HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL=500ms\n\
     HAPROXY_HOST_EXPORTER_CONFIG_FILE=/etc/haproxy-host-exporter/config.yaml\n";

/// One machine for all of it, because booting costs more than any of the steps.
#[test]
fn the_shipped_unit_sees_everything_in_a_booted_systemd() {
    let machine = Machine::boot();
    as_shipped(&machine);
    with_settings(&machine);
    debians_haproxy(&machine);
    forking_haproxy(&machine);
    signals_to_the_exporter(&machine);
    socket_activation(&machine);
    hidden_places(&machine);
    container(&machine);
    namespaces(&machine);
    the_journal_is_clean(&machine);
    watchdog(&machine);
    stopping(&machine);
    the_journal_is_clean(&machine);
}

/// `docs/systemd.md` has a row for each line of the unit that grants or forbids something.
#[test]
fn each_restriction_is_explained() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(root.join("deploy/systemd").join(EXPORTER)).unwrap();
    let page = std::fs::read_to_string(root.join("docs/systemd.md")).unwrap();
    let (_, sandbox) = unit.split_once("\nDynamicUser=").unwrap();
    let (sandbox, _) = sandbox.split_once("\n[Install]").unwrap();
    let lines = format!("DynamicUser={sandbox}");
    let settings: std::collections::BTreeSet<&str> = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(settings.len() > 25, "{settings:?}");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let without: Vec<&&str> = settings
        .iter()
        .filter(|name| !rows.iter().any(|row| row.contains(&format!("`{name}="))))
        .collect();
    assert!(without.is_empty(), "docs/systemd.md has no row for {without:?}");
    // What a row names as its proof is a step of this test.
    let steps = include_str!("main.rs");
    for row in rows.iter().filter(|row| row.contains("=`")) {
        let proof = row.trim_end_matches(" |").rsplit('|').next().unwrap();
        for step in proof.split('`').skip(1).step_by(2) {
            assert!(steps.contains(&format!("fn {step}(")), "{row}: no step {step}");
        }
    }
}

/// Every setting is the shipped default, and the sandbox is in force.
fn as_shipped(machine: &Machine) {
    let debians = machine.read(DEBIANS_CONFIGURATION);
    machine.write(DEBIANS_CONFIGURATION, &format!("{debians}\n{FRONTEND}"));
    machine.systemctl(&["restart", "haproxy"]);
    machine.systemctl(&["start", EXPORTER]);
    let page = machine.await_page("a first scrape", |page| serving(page, &["haproxy"]));
    assert_eq!(reloads(&page, "haproxy"), (Some(0.0), Some(0.0)));
    // From /sys/fs/cgroup, and from the socket tables of the kernel.
    for name in ["memory_available_bytes", "listen_queue_limit"] {
        let name = format!("haproxy_host_{name}");
        assert!(page.all(&name, &[]).count() > 0, "no {name}: {}", page.brief());
    }
    let info = page.all("haproxy_host_info", &[]).next().unwrap();
    let labels = ["mode", "unit", "config", "pidfile"].map(|name| info.label(name));
    assert_eq!(labels, ["master-worker", "haproxy", DEBIANS_CONFIGURATION, "/run/haproxy.pid"]);
    let status = machine.run(&["cat", &format!("/proc/{}/status", machine.main_pid(EXPORTER))]);
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        value.split_whitespace().next().unwrap_or_default().to_owned()
    };
    assert_ne!(field("Uid:"), "0", "DynamicUser has no effect");
    assert_eq!(field("Seccomp:"), "2", "no system call is filtered: this proves nothing");
    assert_eq!(field("NoNewPrivs:"), "1");
}

/// The settings file is read, and a configuration that only root may read.
fn with_settings(machine: &Machine) {
    machine.write(SETTINGS, FAST);
    machine.write(CONFIGURATION, "defaults: {stale_grace: 1s}\n");
    machine.run(&["chmod", "-R", "go=", "/etc/haproxy-host-exporter"]);
    restart_exporter(machine);
    machine.settle("the exporter restarted", |page| {
        serving(page, &["haproxy"]) && reloads(page, "haproxy") == (Some(0.0), Some(0.0))
    });
}

fn debians_haproxy(machine: &Machine) {
    let counts = |page: &Page| {
        let (success, failure) = reloads(page, "haproxy");
        (success.unwrap_or(-1.0), failure.unwrap_or(-1.0))
    };
    renewed(machine, "haproxy", "a reload", &["reload", "haproxy"], |page| {
        serving(page, &["haproxy"]) && counts(page) == (1.0, 0.0)
    });

    let good = machine.read(DEBIANS_CONFIGURATION);
    machine.write(DEBIANS_CONFIGURATION, &format!("{good}    nonsense\n"));
    // Debian's ExecReload looks at the configuration before it signals the master.
    assert!(!machine.systemctl_succeeds(&["reload", "haproxy"]), "HAProxy takes nonsense");
    machine.settle("nothing but a refused reload", |page| {
        serving(page, &["haproxy"]) && counts(page) == (1.0, 0.0)
    });
    machine.systemctl(&["kill", "--signal=USR2", "--kill-whom=main", "haproxy"]);
    let failed = [("haproxy", "haproxy"), ("kind", "reload_failed")];
    machine.settle("a failed reload", |page| {
        serving(page, &["haproxy"])
            && counts(page) == (1.0, 1.0)
            && page.is("haproxy_host_anomalies", &failed, 1.0)
            && page.is("haproxy_host_last_reload_successful", &[], 0.0)
    });
    machine.write(DEBIANS_CONFIGURATION, &good);
    let sound = |page: &Page| {
        serving(page, &["haproxy"]) && counts(page) == (2.0, 1.0) && page.anomalies_are(&[])
    };
    renewed(machine, "haproxy", "a repaired reload", &["reload", "haproxy"], sound);

    // None of these is a reload.
    let kill_master = ["kill", "--signal=KILL", "--kill-whom=main", "haproxy"];
    renewed(machine, "haproxy", "a restart", &["restart", "haproxy"], sound);
    renewed(machine, "haproxy", "a killed master", &kill_master, sound);
    let before = generation(&machine.page(), "haproxy");
    let master = machine.main_pid("haproxy");
    machine.run(&["pkill", "-KILL", "--parent", &master]);
    machine.settle("a killed worker", |page| {
        sound(page) && generation(page, "haproxy") > before && machine.main_pid("haproxy") != master
    });
}

fn forking_haproxy(machine: &Machine) {
    machine.write("/etc/edge/edge.cfg", EDGE);
    machine.write("/etc/systemd/system/edge.service", FORKING_UNIT);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "edge"]);
    let both = ["edge", "haproxy"];
    machine.settle("a second HAProxy", |page| {
        serving(page, &both) && reloads(page, "edge") == (Some(0.0), None)
    });
    let sound = |page: &Page| {
        serving(page, &both)
            && reloads(page, "edge") == (Some(1.0), None)
            && reloads(page, "haproxy") == (Some(2.0), Some(1.0))
            && page.anomalies_are(&[])
    };
    renewed(machine, "edge", "a daemon's reload", &["reload", "edge"], sound);
    renewed(machine, "edge", "a daemon's restart", &["restart", "edge"], sound);
    renewed(machine, "edge", "a killed daemon", &["kill", "--signal=KILL", "edge"], sound);
}

fn signals_to_the_exporter(machine: &Machine) {
    let both = ["edge", "haproxy"];
    machine.write(CONFIGURATION, "defaults: {stale_grace: 1s, allowed_ports: [\"8080\"]}\n");
    machine.systemctl(&["reload", EXPORTER]);
    let forbidden = [("haproxy", "edge"), ("kind", "port_out_of_range")];
    machine.settle("the exporter's new configuration", |page| {
        serving(page, &both)
            && page.is("haproxy_host_anomalies", &forbidden, 1.0)
            && page.anomalies_are(&["port_out_of_range"])
            && reloads(page, "haproxy") == (Some(2.0), Some(1.0))
    });
    machine.write(CONFIGURATION, "defaults: {stale_grace: 1s}\n");
    machine.systemctl(&["reload", EXPORTER]);
    machine
        .settle("its former configuration", |page| serving(page, &both) && page.anomalies_are(&[]));

    let before = started(&machine.page());
    machine.systemctl(&["kill", "--signal=KILL", EXPORTER]);
    machine.settle("a killed exporter, started again", |page| {
        started(page) > before
            && serving(page, &both)
            && reloads(page, "haproxy") == (Some(0.0), Some(0.0))
    });
    assert_eq!(machine.property(EXPORTER, "NRestarts"), "1");
}

fn socket_activation(machine: &Machine) {
    let both = ["edge", "haproxy"];
    machine.systemctl(&["stop", EXPORTER]);
    machine.write(SETTINGS, &format!("{FAST}HAPROXY_HOST_EXPORTER_WEB_SYSTEMD_SOCKET=true\n"));
    machine.systemctl(&["start", "haproxy-host-exporter.socket"]);
    assert_eq!(machine.property(EXPORTER, "ActiveState"), "inactive");
    // The first scrape starts the exporter, which answers before it has a sample to show.
    let status = machine.scrape().0;
    assert!([200, 503].contains(&status), "status {status}");
    machine.settle("an exporter started by its socket", |page| serving(page, &both));
    restart_exporter(machine);
    let status = machine.scrape().0;
    assert!([200, 503].contains(&status), "status {status} after a restart");
    machine.settle("the exporter restarted behind its socket", |page| serving(page, &both));
}

/// A HAProxy has its files where the sandbox gives the exporter a folder of its own (`/tmp`, `/var/tmp`, `/dev/shm`), or
/// none to write to (`/home`, `/root`). It reads them where the HAProxy sees them.
fn hidden_places(machine: &Machine) {
    let places = ["/home/operator", "/root", "/tmp", "/var/tmp", "/dev/shm"];
    let names = ["home", "root", "tmp", "vartmp", "shm"];
    let all = [&["edge", "haproxy"], &names[..]].concat();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    for (number, (place, name)) in places.iter().zip(names).enumerate() {
        // systemd mounts some of them when it boots, so the machine writes these files itself.
        let port = 8091 + number;
        let configuration = EDGE.replace(":8081", &format!(":{port}")).replace('\n', "\\n");
        machine.run(&["mkdir", "-p", place]);
        machine.run(&[
            "sh",
            "-c",
            &format!(
                "printf '{configuration}' >{place}/haproxy.cfg && chmod 600 {place}/haproxy.cfg"
            ),
        ]);
        let unit = format!(
            "[Service]\nType=notify\nExecStart=/usr/sbin/haproxy -Ws -f {place}/haproxy.cfg -p {place}/haproxy.pid\n"
        );
        machine.write(&format!("/etc/systemd/system/{name}.service"), &unit);
    }
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&[&["start"], &names[..]].concat());
    machine.settle("HAProxys with their files in hidden places", |page| {
        serving(page, &sorted)
            && page.anomalies_are(&[])
            && places.iter().zip(names).all(|(place, name)| {
                let files = [
                    ("haproxy", name),
                    ("config", &format!("{place}/haproxy.cfg")),
                    ("pidfile", &format!("{place}/haproxy.pid")),
                ];
                page.is("haproxy_host_info", &files, 1.0)
                    && page.sum("haproxy_host_declared_ports", &[("haproxy", name)]) == 1.0
            })
    });
    machine.systemctl(&[&["stop"], &names[..]].concat());
    for (place, name) in places.iter().zip(names) {
        machine.run(&[
            "rm",
            &format!("{place}/haproxy.cfg"),
            &format!("/etc/systemd/system/{name}.service"),
        ]);
    }
    machine.systemctl(&["daemon-reload"]);
    restart_exporter(machine);
    machine.settle("the host without them", |page| serving(page, &["edge", "haproxy"]));
}

/// A HAProxy in a container is seen without more rights, and its UDP listeners are said to be uncertain: procfs does not
/// distinguish them from other UDP sockets. The drop-in lets the exporter enter the network namespace.
fn container(machine: &Machine) {
    container::start(machine);
    let seen = |page: &Page| serving(page, &[container::NAME, "edge", "haproxy"]);
    machine.await_any_page("a HAProxy in a container", |page| {
        seen(page) && container::ports(page, "tcp") == 1.0 && container::is_not_entered(page)
    });
    machine.install(
        "haproxy-host-exporter.service.d/namespaces.conf.example",
        DROP_INS,
        "namespaces.conf",
    );
    machine.systemctl(&["daemon-reload"]);
    restart_exporter(machine);
    machine.settle("its namespace entered", |page| {
        seen(page) && ["tcp", "udp"].map(|protocol| container::ports(page, protocol)) == [1.0; 2]
    });
    container::stop(machine);
}

/// The limit of a queue is in the socket tables alone, not in procfs.
fn namespaces(machine: &Machine) {
    machine.write("/etc/systemd/system/inner.service", INNER_UNIT);
    machine.systemctl(&["daemon-reload"]);
    restart_exporter(machine);
    machine.systemctl(&["start", "inner"]);
    machine.settle("a HAProxy in another network namespace", |page| {
        let limits = page.all("haproxy_host_listen_queue_limit", &[("haproxy", "inner")]);
        serving(page, &["edge", "haproxy", "inner"]) && limits.count() == 1
    });
}

/// A stopped process feeds no watchdog.
fn watchdog(machine: &Machine) {
    machine.write(&format!("{DROP_INS}/watchdog.conf"), "[Service]\nWatchdogSec=3s\n");
    machine.systemctl(&["daemon-reload"]);
    restart_exporter(machine);
    let all = ["edge", "haproxy", "inner"];
    let before =
        started(&machine.settle("an exporter with a watchdog", |page| serving(page, &all)));
    machine.run(&["kill", "-STOP", &machine.main_pid(EXPORTER)]);
    machine.settle("the watchdog's restart", |page| started(page) > before && serving(page, &all));
}

fn stopping(machine: &Machine) {
    machine.systemctl(&["stop", "haproxy", "edge", "inner"]);
    machine.settle("HAProxys that are down", |page| {
        page.haproxys().len() == 3 && page.sum("haproxy_host_up", &[]) == 0.0
    });
    machine.systemctl(&["stop", "haproxy-host-exporter.socket", EXPORTER]);
    assert_eq!(machine.property(EXPORTER, "Result"), "success");
    assert_eq!(machine.property(EXPORTER, "ActiveState"), "inactive");
}

/// The exporter logged no error and was denied nothing.
fn the_journal_is_clean(machine: &Machine) {
    let own = machine.run(&["journalctl", "--identifier=haproxy-host-exporter", "--output=cat"]);
    assert!(own.contains(" INFO listening"), "not the exporter's journal:\n{own}");
    for sign in [" ERROR ", "could not be read", "not permitted", "denied", "panicked"] {
        // What a container's namespace keeps from the unit without the drop-in is said, and meant to be.
        let found = own.lines().find(|line| line.contains(sign) && !line.contains("CAP_SYS_ADMIN"));
        assert!(found.is_none(), "{found:?} in the journal:\n{own}");
    }
    // What systemd itself says of the unit. A watchdog's kill is an error there, and meant to be.
    let unit = format!("--unit={EXPORTER}");
    let systemds = machine.run(&["journalctl", &unit, "--priority=err", "--quiet", "--output=cat"]);
    let faults: Vec<&str> =
        systemds.lines().filter(|line| !line.contains("Watchdog timeout")).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

/// Gives an order to systemd and waits until a later generation of that service is on the page.
#[track_caller]
fn renewed(
    machine: &Machine,
    haproxy: &str,
    what: &str,
    order: &[&str],
    condition: impl Fn(&Page) -> bool,
) {
    let before = generation(&machine.page(), haproxy);
    machine.systemctl(order);
    machine.settle(what, |page| generation(page, haproxy) > before && condition(page));
}

#[track_caller]
fn restart_exporter(machine: &Machine) {
    let before = machine.main_pid(EXPORTER);
    machine.systemctl(&["restart", EXPORTER]);
    assert_ne!(machine.main_pid(EXPORTER), before, "systemd restarted nothing");
}

/// Are these the HAProxys on the page, and does each serve?
fn serving(page: &Page, haproxys: &[&str]) -> bool {
    page.haproxys().iter().eq(haproxys)
        && page.all("haproxy_host_up", &[]).all(|sample| sample.value == 1.0)
}

/// Successful and failed reloads; of a daemon no failure can be seen.
fn reloads(page: &Page, haproxy: &str) -> (Option<f64>, Option<f64>) {
    let count = |result| {
        page.value("haproxy_host_reloads_total", &[("haproxy", haproxy), ("result", result)])
    };
    (count("success"), count("failure"))
}

/// When the serving generation started; 0 when none serves.
fn generation(page: &Page, haproxy: &str) -> f64 {
    let name = "haproxy_host_generation_start_timestamp_seconds";
    page.value(name, &[("haproxy", haproxy)]).unwrap_or_default()
}

/// When the exporter started.
fn started(page: &Page) -> f64 {
    page.value("process_start_time_seconds", &[]).expect("the exporter's own start")
}
