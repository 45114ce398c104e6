//! How it is run: signals, systemd, rights, what packages carry.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::*;

const LISTENER: &str =
    "listen one\n    mode tcp\n    bind 127.0.0.1:8001\n    server nobody 127.0.0.1:9\n";
const SUCCESSFUL: &str = "haproxy_host_exporter_config_last_reload_successful";
const TIMESTAMP: &str = "haproxy_host_exporter_config_last_reload_success_timestamp_seconds";

#[test]
fn the_configuration_is_read_again() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(LISTENER).start();
    let mut command = bed.command(Exporter::binary());
    command.arg("--web.enable-lifecycle");
    let exporter = Exporter::launched(&bed, command, "defaults: {allowed_ports: ['8000-8009']}\n");
    let allowed = |page: &Page| page.value("haproxy_host_allowed_ports", &[("protocol", "tcp")]);
    let first = exporter.await_page("ten ports", |page| allowed(page) == Some(10.0));
    assert_eq!(first.value(SUCCESSFUL, &[]), Some(1.0));

    bed.write("exporter.yaml", "defaults: {allowed_ports: ['8000-8004']}\n");
    exporter.running.signal(Signal::HUP);
    let second = exporter.await_page("five ports", |page| allowed(page) == Some(5.0));
    assert!(second.value(TIMESTAMP, &[]) > first.value(TIMESTAMP, &[]));

    bed.write("exporter.yaml", "defaults: {allowed_prots: []}\n");
    let refused = exporter.request("POST", "/-/reload").unwrap();
    assert_eq!(refused.status, 500, "{}", refused.body);
    assert!(refused.body.contains("unknown field `allowed_prots`"), "{}", refused.body);
    assert!(refused.body.contains("line 1 column 12"), "{}", refused.body);
    let third = exporter.await_page("failure", |page| page.is(SUCCESSFUL, &[], 0.0));
    assert_eq!(allowed(&third), Some(5.0));
    assert_eq!(third.value(TIMESTAMP, &[]), second.value(TIMESTAMP, &[]));
    assert!(exporter.running.log().contains("the last good one stays in force"));

    bed.write("exporter.yaml", "defaults: {allowed_ports: ['8000']}\n");
    assert_eq!(exporter.request("POST", "/-/reload").unwrap().status, 200);
    exporter
        .await_page("one port", |page| allowed(page) == Some(1.0) && page.is(SUCCESSFUL, &[], 1.0));
    assert_eq!(exporter.get("/-/reload").unwrap().status, 405);
}

#[test]
fn a_configuration_directory_is_read_again_as_a_whole() {
    let bed = Bed::new();
    let service = |name: &str, ports: &str| {
        format!(
            "haproxys: [{{name: {name}, match: {{pidfile: /{name}}}, allowed_ports: [{ports}]}}]\n"
        )
    };
    let directory = bed.directory().join("conf.d");
    fs::create_dir(&directory).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let mut command = bed.command(Exporter::binary());
    command.arg("--web.enable-lifecycle");
    let exporter = Exporter::reading(&bed, command, &directory);
    let log = exporter.running.log();
    assert!(log.contains("INFO") && log.contains("has no *.yaml file"), "{log}");
    let allowed = |page: &Page, name: &str| {
        page.value("haproxy_host_allowed_ports", &[("protocol", "tcp"), ("haproxy", name)])
    };

    write("a.yaml", &service("a", "80-84"));
    write("b.yaml", &service("b", "90"));
    exporter.running.signal(Signal::HUP);
    exporter.await_page("both", |p| allowed(p, "a") == Some(5.0) && allowed(p, "b") == Some(1.0));

    // One bad file: no other file takes effect either.
    write("a.yaml", &service("a", "80"));
    write("c.yaml", &service("b", "91"));
    let refused = exporter.request("POST", "/-/reload").unwrap();
    assert_eq!(refused.status, 500, "{}", refused.body);
    for words in ["c.yaml: duplicate name \"b\" at line 1 column 19", "b.yaml has it at line 1"] {
        assert!(refused.body.contains(words), "{}", refused.body);
    }
    let page = exporter.await_page("failure", |page| page.is(SUCCESSFUL, &[], 0.0));
    assert_eq!((allowed(&page, "a"), allowed(&page, "b")), (Some(5.0), Some(1.0)));

    fs::remove_file(directory.join("c.yaml")).unwrap();
    assert_eq!(exporter.request("POST", "/-/reload").unwrap().status, 200);
    exporter.await_page("one port", |p| allowed(p, "a") == Some(1.0) && p.is(SUCCESSFUL, &[], 1.0));
}

/// An entry that has expired is logged once and shown on the page.
#[test]
fn an_expired_ignore_entry_is_said() {
    let bed = Bed::new();
    let yaml = "defaults: {ignore: [{port: 1, reason: moved in May, until: 2020-05-31}]}\n";
    let exporter = Exporter::configured(&bed, yaml);
    let line = "an ignore entry of defaults has expired: every kind, port 1, until 2020-05-31";
    let page = exporter.get("/").unwrap().body;
    assert!(page.contains(line) && page.contains("moved in May"), "{page}");
    exporter.await_samples(3);
    let logged = || exporter.running.log().matches("an ignore entry has expired").count();
    assert_eq!(logged(), 1, "{}", exporter.running.log());
    exporter.running.signal(Signal::HUP);
    await_true("the entry to be logged again", || logged() == 2);

    let config = bed.directory().join("exporter.yaml").display().to_string();
    let output = Exporter::command(&bed, &["inspect", "--config.file", &config]);
    assert!(text(&output.stdout).contains(line), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn without_the_flag_no_request_reloads() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    assert_eq!(exporter.request("POST", "/-/reload").unwrap().status, 403);
}

#[test]
fn systemd_is_notified() {
    let bed = Bed::new();
    let path = bed.directory().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let await_message = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let count = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {wanted}"));
            let said = text(&buffer[..count]);
            if said.contains(wanted) {
                return said;
            }
        }
    };
    let mut command = bed.command(Exporter::binary());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let mut exporter = Exporter::launched(&bed, command, "{}\n");
    await_message("READY=1");
    await_message("WATCHDOG=1");
    exporter.running.signal(Signal::HUP);
    assert!(await_message("RELOADING=1").contains("MONOTONIC_USEC="));
    await_message("READY=1");
    exporter.running.signal(Signal::TERM);
    await_message("STOPPING=1");
    assert_eq!(exporter.running.exit_code(), 0, "{}", exporter.running.log());
}

#[test]
fn systemd_hands_over_the_port() {
    let bed = Bed::new();
    let mut command = bed.command(tool("systemd-socket-activate"));
    command.args(["-l", "127.0.0.1:10101"]).arg(Exporter::binary()).arg("--web.systemd-socket");
    // Its own address is not asked for: the port is taken already.
    let exporter = Exporter::launched(&bed, command, "{}\n");
    assert_eq!(exporter.get("/metrics").unwrap().status, 200);

    let output = Exporter::command(&bed, &["--web.systemd-socket"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("handed over no socket"), "{}", text(&output.stderr));
}

#[test]
fn what_packages_carry() {
    let bed = Bed::new();
    let man = Exporter::command(&bed, &["man"]);
    let page = text(&man.stdout);
    assert!(man.status.success() && page.contains(".TH haproxy-host-exporter 8"), "{page}");
    assert!(page.contains("web.config.file"), "{page}");
    let man = text(&Exporter::command(&bed, &["man", "check"]).stdout);
    let source = concat!("\"haproxy-host-exporter ", env!("CARGO_PKG_VERSION"), "\"");
    for page in [&page, &man] {
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
        assert!(title.contains(source), "{title}");
    }
    assert!(man.contains(".TH haproxy-host-exporter-check 8"), "{man}");
    assert!(man.contains("offline") && !man.contains("web.config.file"), "{man}");
    for shell in ["bash", "zsh", "fish"] {
        let output = Exporter::command(&bed, &["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = text(&output.stdout);
        // A flag of the program, and one of a command.
        for flag in ["web.config.file", "offline"] {
            assert!(script.contains(flag), "{flag} {shell}");
        }
    }
    let script =
        bed.write("completions", &text(&Exporter::command(&bed, &["completions", "bash"]).stdout));
    bed.shell(&format!("bash -n {}", script.display()));
}

/// Of all rights root has, those that watching needs are left, on every thread.
#[test]
fn rights_are_given_up() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    let tasks = bed.procfs().join(exporter.running.pid().to_string()).join("task");
    let mut threads = 0;
    for task in fs::read_dir(tasks).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        // CAP_DAC_READ_SEARCH 2, CAP_SYS_PTRACE 19, CAP_SYS_ADMIN 21.
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(value(set), "0000000000280004", "{set} {status}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set} {status}");
        }
        assert_eq!(value("NoNewPrivs:"), "1", "{status}");
        threads += 1;
    }
    assert!(threads > 1, "{threads}");
}

/// The threads that sample and that look at backups give way to the one that answers.
#[test]
fn sampling_gives_way_to_scrapes() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    let tasks = bed.procfs().join(exporter.running.pid().to_string()).join("task");
    let nice = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        // Field 19 of proc_pid_stat(5); the first after the name is field 3.
        fields.split_ascii_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
    };
    let mut all: Vec<i32> =
        fs::read_dir(tasks).unwrap().map(|task| nice(&task.unwrap().path())).collect();
    all.sort_unstable();
    let own = nice(Path::new("/proc/self"));
    assert_eq!(all[0], own, "{all:?}");
    assert!(all.len() > 1 && all[1..].iter().all(|nice| *nice >= (own + 10).min(19)), "{all:?}");
}

/// A binary that any user may execute.
fn binary_for_all(bed: &Bed) -> PathBuf {
    let binary = bed.directory().join("exporter");
    copy_program(Exporter::binary(), &binary);
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(bed.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    binary
}

/// An ordinary user with some rights: what it sees of root's HAProxy, and which right it misses.
#[test]
fn each_right_is_needed() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(LISTENER).start();
    let binary = binary_for_all(&bed);
    let table: [(&str, &[&str]); 4] = [
        ("-all", &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]),
        ("-all,+sys_ptrace", &["CAP_DAC_READ_SEARCH"]),
        ("-all,+dac_read_search", &["CAP_SYS_PTRACE"]),
        ("-all,+sys_ptrace,+dac_read_search", &[]),
    ];
    for (rights, missing) in table {
        let mut command = bed.command(tool("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--inh-caps", rights, "--ambient-caps", rights, "--bounding-set", rights]);
        command.arg("--").arg(&binary);
        let exporter = Exporter::launched(&bed, command, "{}\n");
        let page = exporter.await_samples(2);
        let unreadable = page.sum("haproxy_host_unreadable", &[]);
        assert_eq!(unreadable == 0.0, missing.is_empty(), "{rights}: {}", page.brief());
        if missing.is_empty() {
            assert_eq!(page.sum("haproxy_host_up", &[]), 1.0, "{}", page.brief());
            assert_eq!(page.sum("haproxy_host_bound_ports", &[]), 1.0, "{}", page.brief());
        }
        let log = exporter.running.log();
        let named: BTreeSet<_> = log
            .lines()
            .filter(|line| line.contains("a right is missing"))
            .filter_map(|line| line.split("right=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(named, missing.iter().copied().collect(), "{rights}: {log}");
    }
}

/// HAProxy in another network namespace: without the right to enter it procfs still shows its
/// listeners, and what it does not show is named.
#[test]
fn entering_a_foreign_network_namespace_takes_one_right_more() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(LISTENER).start();
    let binary = binary_for_all(&bed);
    let watching = "-all,+sys_ptrace,+dac_read_search";
    for (rights, code) in [(watching.to_owned(), 3), (format!("{watching},+sys_admin"), 0)] {
        let mut command = bed.command(tool("unshare"));
        command.args(["--net", "--", tool("setpriv")]);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--inh-caps", &rights, "--ambient-caps", &rights]);
        command.args(["--bounding-set", &rights, "--"]).arg(&binary);
        let output = command.args(["inspect", "--output", "json"]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{rights}: {said}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        schema::assert_fits("inspect", &answer);
        let haproxy = &answer["haproxys"][0];
        assert_eq!((&haproxy["up"], &haproxy["ports"][0]["port"]), (&json!(true), &json!(8001)));
        assert_eq!(haproxy["ports"][0]["netns"], "", "it is the host's, whatever the exporter's");
        assert_eq!(said.contains("network namespace"), code == 3, "{said}");
    }
}

#[test]
fn the_units_are_sound_and_tight() {
    let bed = Bed::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let mut units = Vec::new();
    for entry in fs::read_dir(&shipped).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !matches!(name.rsplit('.').next(), Some("service" | "socket" | "timer")) {
            continue;
        }
        // systemd-analyze looks whether the program is there.
        let unit = fs::read_to_string(&path).unwrap();
        let program = Exporter::binary().display().to_string();
        units.push(bed.write(name, &unit.replace("/usr/bin/haproxy-host-exporter", &program)));
    }
    assert_eq!(units.len(), 5, "{units:?}");
    let mut analyze = bed.command(tool("systemd-analyze"));
    // The manual pages that they name are in the packages.
    let output = analyze.args(["verify", "--man=no"]).args(&units).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    // The backup must be root's, and proves what it kept in a mount namespace; it serves nothing and runs for seconds.
    let tenths = [
        ("haproxy-host-exporter.service", "23"),
        ("haproxy-host-reap.service", "23"),
        ("haproxy-host-exporter-backup.service", "38"),
    ];
    for (unit, tenths) in tenths {
        let mut analyze = bed.command(tool("systemd-analyze"));
        analyze.args(["security", "--offline=true", "--no-pager"]);
        analyze.arg(format!("--threshold={tenths}")).arg(bed.directory().join(unit));
        let output = analyze.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stdout));
    }
}

/// Every variable of the environment file is one, and every flag of the unit exists.
#[test]
fn the_environment_file_names_flags() {
    let bed = Bed::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let file = fs::read_to_string(shipped.join("haproxy-host-exporter.default")).unwrap();
    let help = text(&Exporter::command(&bed, &["--help"]).stdout);
    // Most are comments: they show a default.
    let variables = file.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    let variables: Vec<_> = variables
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' ') && *name != "ARGS")
        .collect();
    assert!(variables.len() > 4, "{variables:?}");
    for variable in variables {
        assert!(help.contains(&format!("[env: {variable}")), "{variable} is none of\n{help}");
    }
}
