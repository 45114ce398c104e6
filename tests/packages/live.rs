//! The `.deb` and the static archive on a booted Debian, by the commands of the page.

use std::time::Duration;

use super::alerts::{self, Scrape};
use super::build::{FORMER_SETTING, packages, previous};
use super::container;
use super::machine::{EXPORTER, Machine};
use super::manual::Manual;
use super::recording::{DROP_IN, installed, now, record};
use super::support::{Page, text};

const REAPER: &str = "haproxy-host-reap.service";
const SOCKET: &str = "haproxy-host-exporter.socket";
const TIMER: &str = "haproxy-host-exporter-backup.timer";
const CONFIGURATION: &str = "/etc/haproxy-host-exporter/config.yaml";
const SETTINGS: &str = "/etc/default/haproxy-host-exporter";
const REAPERS_SETTINGS: &str = "/etc/default/haproxy-host-reap";

/// A frontend for the end of Debian's configuration, which has none.
const FRONTEND: &str = "frontend web\n    bind :8080\n    http-request return status 200\n";

/// A HAProxy without a unit, which a reload can leave behind.
const EDGE: &str = "defaults\n    mode http\n    timeout connect 5s\n    timeout client 1h\n    \
     timeout server 1h\nfrontend edge\n    bind :8081\n    http-request return status 200\n";

/// A policy by which the web frontend listens where it must not.
const FORBIDDEN: &str = "defaults: {stale_grace: 1s, allowed_ports: [\"8081\"]}\n";

/// The configuration of Debian's HAProxy.
const DEBIANS: &str = "/etc/haproxy/haproxy.cfg";

/// How many pages of a healthy host are recorded: more than ten minutes of scrapes.
const RECORDED: usize = 45;

/// One machine for all of it, because booting costs more than any of the steps.
#[test]
fn the_page_installs_upgrades_and_removes() {
    let page = Manual::read();
    let machine = Machine::boot_prepared(|_| ());
    for file in [".deb", ".rpm", ".tar.gz", "SHA256SUMS"].map(|ending| packages().file(ending)) {
        machine.copy(&file, &format!("/root/{}", file.file_name().unwrap().to_str().unwrap()));
    }
    machine.copy(&previous(".deb"), "/root/previous.deb");
    machine.shell(&page.script("Verify"));
    machine.write("/etc/edge/edge.cfg", EDGE);
    let before = everything(&machine);

    installed_without_haproxy(&machine);
    configured(&machine, &page);
    upgraded_under_scrape(&machine, &page);
    backed_up(&machine, &page);
    haproxy_reloaded(&machine);
    beside_a_container(&machine, &page, &["haproxy"]);
    machine.shell(&format!("rm -r {DROP_IN} && systemctl daemon-reload"));
    // It forgets the HAProxy that is gone.
    machine.systemctl(&["restart", EXPORTER]);
    machine.settle("the host without a container", |page| serving(page, &["haproxy"]));
    reaped(&machine, &page);
    behind_a_socket(&machine, &page);
    watched(&machine);
    removed(&machine, &page, &before);
    println!("removed: nothing is left");

    // Once more, now beside HAProxys that run.
    installed_beside_haproxy(&machine, &page);
    removed(&machine, &page, &before);

    machine.shell(&page.script("Static"));
    machine.settle("the static installation", |page| serving(page, &["edge", "haproxy"]));
    for installed in ["man/man8/haproxy-host-exporter-serve.8.gz", "zsh/site-functions/_*"] {
        machine.shell(&format!("ls /usr/local/share/{installed}"));
    }
    beside_a_container(&machine, &page, &["edge", "haproxy"]);
    machine.shell(&page.script("Remove what is static"));
    machine.shell("rm -r haproxy-host-exporter-*/");
    assert_eq!(everything(&machine), before);
}

/// The files that a package might leave; not what dpkg, apt and the journal remember of it.
fn everything(machine: &Machine) -> String {
    machine.shell(
        "find /etc /usr /opt /srv /var/lib /var/backups /root -xdev \
         -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' -not -path /etc/.updated \
         -printf '%p %m %u\\n' | sort; find /run /tmp /var/tmp -name '*haproxy-host*'",
    )
}

/// The version before, on a host whose HAProxy is started later.
fn installed_without_haproxy(machine: &Machine) {
    let debians = machine.read(DEBIANS);
    machine.systemctl(&["stop", "haproxy"]);
    let first = installed(machine, "without HAProxy", "apt-get install -y ./previous.deb");
    assert_eq!(first.value("haproxy_host_haproxys", &[]), Some(0.0));
    let state = |unit| (enabled(machine, unit), machine.property(unit, "ActiveState"));
    assert_eq!(state(EXPORTER), (true, "active".to_owned()));
    for offered in [SOCKET, TIMER, REAPER] {
        assert_eq!(state(offered), (false, "inactive".to_owned()), "{offered}");
    }
    let mut scrapes = vec![Scrape { time: now(), page: Some(first) }];
    record(machine, &mut scrapes, 10);
    machine.write(DEBIANS, &format!("{debians}\n{FRONTEND}"));
    machine.systemctl(&["start", "haproxy"]);
    record(machine, &mut scrapes, RECORDED + 10);
    machine.settle("HAProxy, started later", |page| serving(page, &["haproxy"]));
    healthy(machine);
    alerts::none_fires("started-later", &scrapes, 1);
    machine.shell(&format!("rm -r {DROP_IN} && systemctl daemon-reload"));
}

/// The new version on a host whose HAProxys run, by all commands of the page.
fn installed_beside_haproxy(machine: &Machine, page: &Manual) {
    let install = page.command("Debian", "apt-get install");
    let first = installed(machine, "beside HAProxy", &install);
    let mut scrapes = vec![Scrape { time: now(), page: Some(first) }];
    record(machine, &mut scrapes, RECORDED);
    machine.shell(&page.script("Debian"));
    machine.settle("an installation beside HAProxy", |page| serving(page, &["edge", "haproxy"]));
    let page = healthy(machine);
    let resident = page.value("process_resident_memory_bytes", &[]).unwrap();
    println!("{} beside HAProxy: {resident} bytes of resident memory", packages().program());
    alerts::none_fires("beside-haproxy", &scrapes, 2);
    machine.shell(&format!("rm -r {DROP_IN} && systemctl daemon-reload"));
}

fn healthy(machine: &Machine) -> Page {
    let page = machine.settle("a healthy host", |page| page.anomalies_are(&[]));
    assert!(page.all("haproxy_host_unreadable", &[]).all(|sample| sample.value == 0.0));
    assert!(page.all("haproxy_host_unreadable", &[]).count() > 4);
    page
}

/// A good and a bad configuration, read by a reload of the unit.
fn configured(machine: &Machine, page: &Manual) {
    // The example is accepted when its keys are no comments.
    let shipped = machine.read(CONFIGURATION);
    let (_head, body) = shipped.split_once("\n\n").unwrap();
    let keys = body.lines().filter_map(|line| line.strip_prefix('#'));
    let keys: Vec<&str> = keys.filter(|line| !is_prose(line)).collect();
    assert!(keys.contains(&"defaults:") && keys.contains(&"haproxys:"), "{keys:?}");
    machine.write("/root/example.yaml", &(keys.join("\n") + "\n"));
    machine.shell("haproxy-host-exporter --config.check --config.file example.yaml");
    machine.shell("rm example.yaml");
    let read = |page: &Page, well: f64| {
        page.is("haproxy_host_exporter_config_last_reload_successful", &[], well)
    };
    machine.write(
        SETTINGS,
        &format!("{}HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL=500ms\n", machine.read(SETTINGS)),
    );
    machine.systemctl(&["restart", EXPORTER]);
    machine.write(CONFIGURATION, FORBIDDEN);
    machine.shell(&page.script("Configure"));
    machine.settle("a good configuration", |page| {
        read(page, 1.0) && page.anomalies_are(&["port_out_of_range"])
    });
    machine.write(CONFIGURATION, "defaults: {nonsense: 1}\n");
    assert!(!machine.succeeds(&["sh", "-c", &page.commands("Configure")[0]]));
    machine.systemctl(&["reload", EXPORTER]);
    machine.settle("a bad configuration", |page| {
        read(page, 0.0) && page.anomalies_are(&["port_out_of_range"])
    });
    machine.write(CONFIGURATION, FORBIDDEN);
    machine.shell(&page.script("Configure"));
    machine.settle("the good one again", |page| read(page, 1.0));
}

/// Whether a comment of the example explains something: it begins with one blank, a key with none or two.
fn is_prose(comment: &str) -> bool {
    comment.starts_with(' ') && !comment.starts_with("  ")
}

/// While it is scraped once a second, good scrapes are never further apart than the usual interval, and what fires goes
/// on. The version before has another unit and other settings: a file that was changed is kept, another is replaced.
fn upgraded_under_scrape(machine: &Machine, page: &Manual) {
    let before = machine.main_pid(EXPORTER);
    let settings = machine.read(SETTINGS);
    assert!(settings.contains(FORMER_SETTING));
    assert!(machine.read(REAPERS_SETTINGS).contains(FORMER_SETTING));
    assert_eq!(machine.property(EXPORTER, "WatchdogUSec"), "45s");
    let mut scrapes = vec![Scrape { time: now(), page: Some(machine.page()) }];
    let mut upgrade = machine.start_shell(&page.script("Upgrade on Debian"));
    let mut after = 0;
    while after < 2 * alerts::INTERVAL {
        let time = now();
        let (status, body) = machine.scrape();
        let page = (status == 200).then(|| Page::parse(&body).unwrap());
        scrapes.push(Scrape { time, page });
        std::thread::sleep(Duration::from_secs(1));
        after += usize::from(upgrade.try_wait().unwrap().is_some());
    }
    let output = upgrade.wait_with_output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let good = scrapes.iter().filter(|scrape| scrape.page.is_some());
    let good: Vec<f64> = good.map(|scrape| scrape.time).collect();
    let gap = good.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let failed = scrapes.len() - good.len();
    println!("upgrade: {failed} scrapes failed; at most {gap:.1} s from a good one to the next");
    assert!(gap <= alerts::INTERVAL as f64, "{good:?}");
    alerts::goes_on("HAProxyPortOutOfRange", &scrapes);
    assert_ne!(machine.main_pid(EXPORTER), before, "it was not restarted");
    assert_eq!(machine.property(EXPORTER, "WatchdogUSec"), "1min", "the unit is the former one");
    assert_eq!(machine.property(EXPORTER, "NeedDaemonReload"), "no");
    assert_eq!(machine.read(CONFIGURATION), FORBIDDEN, "a changed file was not kept");
    assert_eq!(machine.read(SETTINGS), settings, "changed settings were not kept");
    assert!(!machine.read(REAPERS_SETTINGS).contains(FORMER_SETTING), "a file was not replaced");
    assert_eq!([SOCKET, TIMER, REAPER].map(|unit| enabled(machine, unit)), [false; 3]);
    let version =
        machine.shell("dpkg-query --show --showformat '${Version}' haproxy-host-exporter");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    machine.settle("the upgraded exporter", |page| page.anomalies_are(&["port_out_of_range"]));
}

fn backed_up(machine: &Machine, page: &Manual) {
    machine.write(
        CONFIGURATION,
        "defaults: {stale_grace: 1s}\nbackup: {directory: /var/backups/haproxy}\n",
    );
    machine.systemctl(&["reload", EXPORTER]);
    machine.shell(&page.script("Backups"));
    machine.settle("a verified backup", |page| {
        let taken = page.value("haproxy_host_backup_last_success_timestamp_seconds", &[]);
        let verified = page.value("haproxy_host_backup_last_verified_timestamp_seconds", &[]);
        taken.is_some() && verified >= taken
    });
    assert_eq!(machine.property(TIMER, "ActiveState"), "active");
    machine.shell("rm -r /var/backups/haproxy");
}

/// A reload of Debian's unit, one that HAProxy itself fails, and one that repairs it.
fn haproxy_reloaded(machine: &Machine) {
    let reloads = |page: &Page| {
        let count = |result| page.value("haproxy_host_reloads_total", &[("result", result)]);
        (count("success"), count("failure"))
    };
    let sound = |page: &Page, counts| {
        serving(page, &["haproxy"]) && reloads(page) == counts && page.anomalies_are(&[])
    };
    let (before, failed) = reloads(&machine.page());
    let later = |count: Option<f64>| count.map(|count| count + 1.0);
    machine.systemctl(&["reload", "haproxy"]);
    let after = later(before);
    machine.settle("a reload of HAProxy", |page| sound(page, (after, failed)));
    let good = machine.read(DEBIANS);
    machine.write(DEBIANS, &format!("{good}    nonsense\n"));
    // Debian's ExecReload refuses it before the master gets the signal.
    machine.systemctl(&["kill", "--signal=USR2", "--kill-whom=main", "haproxy"]);
    machine.settle("a failed reload of HAProxy", |page| {
        page.anomalies().contains("reload_failed")
            && page.is("haproxy_host_last_reload_successful", &[], 0.0)
            && reloads(page) == (after, later(failed))
            && serving(page, &["haproxy"])
    });
    machine.write(DEBIANS, &good);
    machine.systemctl(&["reload", "haproxy"]);
    machine
        .settle("a repaired reload of HAProxy", |page| sound(page, (later(after), later(failed))));
}

/// A HAProxy in a container is seen beside others; its UDP sockets only with the right that the page gives to the unit.
fn beside_a_container(machine: &Machine, page: &Manual, others: &[&str]) {
    container::start(machine);
    let all = [&[container::NAME], others].concat();
    let seen = |page: &Page| serving(page, &all);
    machine.await_any_page("a HAProxy in a container", |page| {
        seen(page) && container::ports(page, "tcp") == 1.0 && container::is_not_entered(page)
    });
    println!("a HAProxy in a container, its namespace not entered: seen");
    machine.shell(&page.script("Containers"));
    machine.settle("a HAProxy in a container with its UDP sockets", |page| {
        seen(page) && ["tcp", "udp"].map(|protocol| container::ports(page, protocol)) == [1.0; 2]
    });
    container::stop(machine);
}

/// A process that a reload has left behind, first only counted, then ended; `serve` shows both.
fn reaped(machine: &Machine, page: &Manual) {
    machine.write(
        CONFIGURATION,
        "defaults:\n  stale_grace: 1s\n  reap: {listening: 1s, idle: 1s, step_grace: 1s}\n",
    );
    machine.systemctl(&["reload", EXPORTER]);
    let start = "haproxy -D -f /etc/edge/edge.cfg -p /run/edge.pid";
    machine.shell(start);
    let old = machine.shell("cat /run/edge.pid").trim().to_owned();
    // The list of processes to replace is empty: the old one was never told.
    machine.shell(&format!("{start} -sf"));
    machine.settle("a process left behind", |page| page.stale("listening") == 1.0);

    let shipped = machine.read(REAPERS_SETTINGS);
    let fast = format!("{shipped}HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL=500ms\n");
    machine.write(REAPERS_SETTINGS, &fast);
    machine.shell(&page.script("Reaper"));
    let edge = [("haproxy", "edge")];
    machine.settle("a dry run", |page| {
        page.is("haproxy_host_reap_pending", &edge, 1.0)
            && page.is("haproxy_host_reap_last_run_success", &[], 1.0)
            && page.stale("listening") == 1.0
    });
    assert!(machine.succeeds(&["kill", "-0", &old]), "a dry run has ended it");
    machine.write(REAPERS_SETTINGS, &format!("{fast}ARGS=\"--execute\"\n"));
    machine.systemctl(&["restart", REAPER]);
    machine.settle("a step of the reaper", |page| {
        let ended = [("haproxy", "edge"), ("result", "ended")];
        page.sum("haproxy_host_reap_steps_total", &ended) == 1.0
            && page.is("haproxy_host_reap_pending", &edge, 0.0)
            && page.sum("haproxy_host_stale_processes", &[]) == 0.0
            && serving(page, &["edge", "haproxy"])
    });
    assert!(!machine.succeeds(&["kill", "-0", &old]));
    let status = machine.shell(&format!("cat /proc/{}/status", machine.main_pid(REAPER)));
    assert!(!status.contains("Uid:\t0\t"), "the reaper runs as root");
}

fn behind_a_socket(machine: &Machine, page: &Manual) {
    machine.shell(&page.script("Socket"));
    let status = machine.scrape().0;
    assert!([200, 503].contains(&status), "status {status}");
    machine.settle("the first scrape starts it", |page| serving(page, &["edge", "haproxy"]));
}

/// A stopped process feeds no watchdog.
fn watched(machine: &Machine) {
    machine.write(&format!("{DROP_IN}/watchdog.conf"), "[Service]\nWatchdogSec=3s\n");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["restart", EXPORTER]);
    let start = |page: &Page| page.value("process_start_time_seconds", &[]).unwrap();
    let before = start(&machine.page());
    machine.run(&["kill", "-STOP", &machine.main_pid(EXPORTER)]);
    machine.settle("the watchdog's restart", |page| start(page) > before);
    machine.shell(&format!("rm -r {DROP_IN}"));
}

#[track_caller]
fn removed(machine: &Machine, page: &Manual, before: &str) {
    let [remove, purge] = page.commands("Remove from Debian") else { panic!("two commands") };
    machine.shell(remove);
    assert_eq!(machine.scrape().0, 0, "something still serves");
    assert!(machine.succeeds(&["test", "-e", CONFIGURATION]), "the configuration is gone");
    machine.shell(purge);
    let left = everything(machine);
    let added: Vec<&str> =
        left.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    assert!(added.is_empty(), "left: {added:#?}");
    let units = machine.shell("systemctl list-units --all --plain --no-legend 'haproxy-host*'");
    assert_eq!(units, "");
}

fn enabled(machine: &Machine, unit: &str) -> bool {
    machine.systemctl_succeeds(&["--quiet", "is-enabled", unit])
}

/// Are these the HAProxys on the page, and does each serve?
fn serving(page: &Page, haproxys: &[&str]) -> bool {
    page.haproxys().iter().eq(haproxys)
        && page.all("haproxy_host_up", &[]).all(|sample| sample.value == 1.0)
}
