//! The configuration on disk against what runs: found by itself, read when it changes, and judged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::proxies::{
    ECHO, HTTP_WAITING_ROOM, WAITING_ROOM, WAITING_ROOM_ADDRESS, listeners, something_down,
    something_wrong, stale,
};
use crate::support::*;

for_each_version! {
    not_loaded_by_a_master => |version| not_loaded(version, Manner::Master);
    not_loaded_by_a_daemon => |version| not_loaded(version, Manner::DaemonTransfer);
    undeclared => undeclared;
    missing => missing;
    found_by_itself => found_by_itself;
    mode_of_a_daemon => |version| mode_in_the_configuration(version, Manner::Daemon);
    mode_of_a_master => |version| mode_in_the_configuration(version, Manner::Master);
    own_grace_of_a_daemon => |version| own_grace(version, Manner::Daemon);
    own_grace_with_transfer => |version| own_grace(version, Manner::DaemonTransfer);
    edited_every_time => edited_every_time;
}
for_each_version! { [v2_6 V2_6, v3_2 V3_2]
    from_the_host => from_the_host;
    own_grace_of_a_worker => |version| own_grace(version, Manner::Master);
    syslog_in_the_ephemeral_range => syslog_in_the_ephemeral_range;
}
for_each_version! { [v3_0 V3_0, v3_2 V3_2]
    quic_in_the_ephemeral_range => quic_in_the_ephemeral_range;
}

/// Graces that can be waited for.
const GRACES: &str = "defaults: {stale_grace: 1s, reload_grace: 2s}\n";
/// More samples than those take.
const SAMPLES_OF_GRACES: usize = 13;

/// What is declared, by protocol: of every haproxy on the page.
fn declared(page: &Page, protocol: &str) -> Vec<f64> {
    page.all("haproxy_host_declared_ports", &[("protocol", protocol)]).map(|s| s.value).collect()
}

/// The ports the current generations listen on.
fn bound(page: &Page) -> Vec<String> {
    let current = [("generation", "current")];
    let ports = page.all("haproxy_host_port_info", &current).map(|s| s.label("port").to_owned());
    ports.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The anomalies of a kind: protocol, address and port of each.
fn anomalous(page: &Page, kind: &str) -> Vec<String> {
    page.all("haproxy_host_anomaly_info", &[("kind", kind)])
        .map(|info| ["protocol", "address", "port"].map(|name| info.label(name)).join(" "))
        .collect()
}

/// What a second exporter, one that has seen nothing before, gives as evidence of a kind.
fn evidence(bed: &Bed, kind: &str) -> String {
    let yaml = bed.directory().join("exporter.yaml").display().to_string();
    let arguments = ["inspect", "--output", "json", "--config.file", &yaml];
    let output = Exporter::command(bed, &arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let anomalies = report["haproxys"][0]["anomalies"].as_array().cloned().unwrap_or_default();
    let of_kind = anomalies.iter().filter(|anomaly| anomaly["kind"] == kind);
    let evidence: Vec<String> =
        of_kind.map(|anomaly| format!("{} {}", anomaly["port"], anomaly["evidence"])).collect();
    assert!(!evidence.is_empty(), "inspect says nothing of {kind}: {report:#}");
    evidence.join("\n")
}

fn modified(file: &Path) -> f64 {
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    modified.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// No part of a configuration was hidden.
fn all_read(page: &Page) -> bool {
    page.is("haproxy_host_unreadable", &[("what", "config")], 0.0)
}

/// One port deleted from the file and one added, and nobody reloads.
fn not_loaded(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(&listeners(&[8011, 8012])).start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let file = service.path("haproxy.cfg");
    let page = exporter.await_page("what is declared", |page| declared(page, "tcp") == [2.0]);
    assert_eq!(declared(&page, "udp"), [0.0]);
    let since = page.value("haproxy_host_config_mtime_seconds", &[]).unwrap();
    assert!((since - modified(&file)).abs() < 0.01, "{since}, the file: {}", modified(&file));
    // Written again, it has a new date and is the same.
    service.configure(&listeners(&[8011, 8012]));
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);

    service.configure(&listeners(&[8011, 8013, 8014]));
    let edited = modified(&file);
    let page = exporter.await_page("the edit", |page| page.anomalies_are(&["config_not_loaded"]));
    assert_eq!(bound(&page), ["8011", "8012"]);
    assert_eq!(declared(&page, "tcp"), [3.0], "{}", page.brief());
    let since = "haproxy_host_anomaly_start_timestamp_seconds";
    let since = page.value(since, &[("kind", "config_not_loaded")]).unwrap();
    assert!((since - edited).abs() < 0.01, "since {since}, edited {edited}");
    recorder.never("an anomaly before its time", |page| {
        let taken = page.value("haproxy_host_sample_timestamp_seconds", &[]).unwrap_or_default();
        something_wrong(page) && taken < edited + 2.0
    });
    let why = evidence(&bed, "config_not_loaded");
    for change in [
        "would bind tcp 127.0.0.1 port 8013",
        "would bind tcp 127.0.0.1 port 8014",
        "would give back tcp 127.0.0.1 port 8012",
    ] {
        assert!(why.contains(change), "{why}");
    }
    assert!(!why.contains("8011"), "{why}");

    service.reload();
    exporter.await_page("the reload", |page| {
        page.anomalies_are(&[]) && bound(page) == ["8011", "8013", "8014"]
    });
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "config_not_loaded")
    });
    recorder.never("a haproxy down", something_down);
    assert!(exporter.page().anomalies_are(&[]));
}

/// An older file came back with its date: nothing says that it was edited, and it declares less.
fn undeclared(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(&listeners(&[8011]));
    let (file, backup) = (service.path("haproxy.cfg"), service.path("backup"));
    bed.shell(&format!(
        "touch -d '1 hour ago' {file} && cp -p {file} {backup}",
        file = file.display(),
        backup = backup.display()
    ));
    service.configure(&listeners(&[8011, 8012])).start();
    fs::rename(&backup, &file).unwrap();

    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let page =
        exporter.await_page("the undeclared port", |page| page.anomalies_are(&["port_undeclared"]));
    assert_eq!(anomalous(&page, "port_undeclared"), ["tcp 127.0.0.1 8012"]);
    assert_eq!(declared(&page, "tcp"), [1.0]);
    assert!(evidence(&bed, "port_undeclared").contains("8012"));
    service.reload();
    exporter.await_page("the reload", |page| page.anomalies_are(&[]) && bound(page) == ["8011"]);
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "port_undeclared")
    });
}

/// A frontend disabled at run time: its ports are declared, and nobody listens.
fn missing(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(&format!("{WAITING_ROOM}{}", listeners(&[8011, 8012]))).start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);

    service.ask("admin.sock", "disable frontend many").expect("an answer");
    let page =
        exporter.await_page("the missing ports", |page| page.anomalies_are(&["port_missing"]));
    assert_eq!(anomalous(&page, "port_missing"), ["tcp 127.0.0.1 8011", "tcp 127.0.0.1 8012"]);
    assert_eq!(bound(&page), ["8001"]);
    let why = evidence(&bed, "port_missing");
    assert!(why.contains("haproxy.cfg:") && why.contains("listen many"), "{why}");

    service.ask("admin.sock", "enable frontend many").expect("an answer");
    exporter.await_page("them again", |page| {
        page.anomalies_are(&[]) && bound(page) == ["8001", "8011", "8012"]
    });
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "port_missing")
    });
    recorder.never("a haproxy down", something_down);
}

/// Every way to name the files, by daemons and by masters.
fn found_by_itself(version: Version) {
    let bed = Bed::new();
    let mut services = ways(&bed, version, Manner::Daemon, "d", 8020);
    services.extend(ways(&bed, version, Manner::Master, "w", 8040));
    for (service, _) in &services {
        service.start();
    }
    // So many reloads keep the machine busy, and what was told to end takes its time.
    let graces = GRACES.replace("stale_grace: 1s", "stale_grace: 5s");
    let exporter = Exporter::configured(&bed, &graces);
    let recorder = exporter.record();
    let all_declare = |page: &Page, count: f64| {
        let declared = declared(page, "tcp");
        declared.len() == services.len() && declared.iter().all(|&found| found == count)
    };
    let all_bind = |page: &Page, count: f64| {
        let labels = [("protocol", "tcp"), ("generation", "current")];
        let mut bound = page.all("haproxy_host_bound_ports", &labels);
        bound.all(|found| found.value == count)
    };
    exporter.await_page("two ports each", |page| {
        all_declare(page, 2.0) && all_bind(page, 2.0) && all_read(page)
    });
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);

    // It is this very file that is read.
    for (number, (_, file)) in services.iter().enumerate() {
        let more = format!(
            "\nlisten more\n    mode tcp\n    bind 127.0.0.1:{}\n    server nobody 127.0.0.1:9\n",
            8060 + number
        );
        fs::write(file, fs::read_to_string(file).unwrap() + &more).unwrap();
    }
    exporter.await_page("the edits", |page| {
        let kind = [("kind", "config_not_loaded")];
        page.sum("haproxy_host_anomalies", &kind) == services.len() as f64
            && all_declare(page, 3.0)
            && all_bind(page, 2.0)
    });
    for (service, _) in &services {
        service.reload();
    }
    exporter.await_page("the reloads", |page| {
        page.anomalies_are(&[]) && all_declare(page, 3.0) && all_bind(page, 3.0)
    });
    recorder.never("another anomaly", |page| {
        page.anomalies().iter().any(|kind| kind != "config_not_loaded")
    });
    recorder.never("something unread", |page| !all_read(page));
    recorder.never("a haproxy down", something_down);
}

/// Services with two ports each, and of each a file that can be added to.
fn ways<'b>(
    bed: &'b Bed,
    version: Version,
    manner: Manner,
    stem: &str,
    first: u16,
) -> Vec<(Service<'b>, PathBuf)> {
    let named = |name: &str| Service::named(bed, version, manner, &format!("{stem}-{name}"));
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let plain = |service: Service<'b>| {
        let file = service.path("haproxy.cfg");
        (service, file)
    };
    let mut services = Vec::new();

    let mut relative = named("relative");
    relative.arguments = owned(&["-p", "haproxy.pid", "-f", "haproxy.cfg"]);
    let change_directory = format!("cd {} && exec \"$@\"", relative.path("").display());
    relative.wrapper = owned(&["sh", "-c", &change_directory, "sh"]);
    relative.configure(&listeners(&[first, first + 1]));
    services.push(plain(relative));

    let mut changed = named("changed");
    let directory = changed.path("").display().to_string();
    changed.arguments = owned(&["-C", &directory, "-p", "haproxy.pid", "-f", "./haproxy.cfg"]);
    changed.configure(&listeners(&[first + 2, first + 3]));
    services.push(plain(changed));

    let mut several = named("several");
    let directory = several.path("conf");
    fs::create_dir(&directory).unwrap();
    several.configure("");
    fs::rename(several.path("haproxy.cfg"), directory.join("00.cfg")).unwrap();
    fs::write(directory.join("10.cfg"), listeners(&[first + 4])).unwrap();
    fs::write(directory.join(".20.cfg"), "nonsense\n").unwrap();
    fs::write(directory.join("30.cfg.bak"), "nonsense\n").unwrap();
    let last = several.path("last.cfg");
    fs::write(&last, listeners(&[first + 5]).replace("listen many", "listen last")).unwrap();
    several.arguments = owned(&[
        "-p",
        &several.pidfile().display().to_string(),
        "-f",
        &directory.display().to_string(),
        "-f",
        &last.display().to_string(),
    ]);
    services.push((several, last));

    let jailed = named("jailed");
    let jail = jailed.path("jail");
    fs::create_dir(&jail).unwrap();
    let chroot = format!("    chroot {}\n", jail.display());
    jailed.configure_with(&chroot, &listeners(&[first + 6, first + 7]));
    services.push(plain(jailed));

    let mut variables = named("variables");
    variables.wrapper = owned(&["env", &format!("LB_PORT={}", first + 8), "LB_HOST=127.0.0.1"]);
    variables.configure_with(
        &format!("    setenv LB_NEXT {}\n", first + 9),
        "
listen many
    mode tcp
    server nobody 127.0.0.1:9
    bind \"${LB_HOST}:${LB_PORT}\"
    bind ${LB_HOST}:${LB_NEXT}
",
    );
    services.push(plain(variables));
    services
}

/// Neither `-D` nor `-W` nor `-p` on the command line: the configuration says it all.
fn mode_in_the_configuration(version: Version, manner: Manner) {
    let bed = Bed::new();
    let mut service = Service::new(&bed, version, manner);
    service.mode = None;
    service.arguments = vec!["-f".to_owned(), service.path("haproxy.cfg").display().to_string()];
    let (word, mode, role) = match manner {
        Manner::Master => ("master-worker", "master-worker", "worker"),
        _ => ("daemon", "daemon", "daemon"),
    };
    let pidfile = service.pidfile();
    let global = format!("    {word}\n    pidfile {}\n", pidfile.display());
    service.configure_with(&global, WAITING_ROOM);
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let first = service.start();
    exporter.await_page("a haproxy in its mode", |page| {
        page.is("haproxy_host_up", &[], 1.0)
            && page.label_values("haproxy_host_info", "mode") == [mode.to_owned()].into()
    });

    let _flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, first);
    service.reload();
    exporter.await_page("one draining", |page| {
        let current = [("role", role), ("generation", "current")];
        page.stale("draining") == 1.0
            && page.sum("haproxy_host_processes", &current) == 1.0
            && page.is("haproxy_host_reloads_total", &[("result", "success")], 1.0)
    });
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);
    recorder.never("two haproxys", |page| page.haproxys().len() > 1);
    recorder.never("more than one stale", |page| stale(page) > 1.0);

    let right = fs::read_to_string(&pidfile).unwrap();
    fs::write(&pidfile, "1\n").unwrap();
    exporter.await_page("the mismatch", |page| page.anomalies_are(&["pidfile_mismatch"]));
    fs::write(&pidfile, right).unwrap();
    exporter.await_page("its cure", |page| page.anomalies_are(&[]));
}

/// `grace` keeps the listeners of an old process open for a while, on purpose.
fn own_grace(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    // A worker that shares its listeners with an older one counts as starting for its first 10 s.
    let grace = if manner == Manner::Master { "13s" } else { "8s" };
    service.configure_with(&format!("    grace {grace}\n"), WAITING_ROOM);
    let old = service.start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    exporter.await_page("a haproxy", |page| page.is("haproxy_host_up", &[], 1.0));
    if manner == Manner::Master {
        service.signal_reload();
    } else {
        service.reload();
    }
    exporter.await_page("the old one, listening", |page| page.stale("listening") == 1.0);
    exporter.await_samples(9); // longer than our own grace
    assert!(bed.listens(old), "the old one's grace ended early");
    recorder.never("an anomaly", something_wrong);
    // A 2.8 was once seen alive, without listener and connection, 20 s after this; why is not known.
    exporter.await_page("its end", |page| page.stale("listening") == 0.0);
    assert!(!bed.is_alive(old) || !bed.listens(old));
    recorder.never("a haproxy down", something_down);
}

/// What an exporter on the host sees of a haproxy whose files are elsewhere for it.
fn from_the_host(version: Version) {
    let bed = Bed::new();
    let mut service = Service::new(&bed, version, Manner::Master);
    let inside = bed.directory().join("inside");
    fs::create_dir(&inside).unwrap();
    bed.shell(&format!("mount --bind {} {}", service.path("").display(), inside.display()));
    let path = |name: &str| inside.join(name).display().to_string();
    service.arguments =
        ["-p", &path("haproxy.pid"), "-f", &path("haproxy.cfg")].map(str::to_owned).to_vec();
    service.configure(&listeners(&[8011, 8012])).start();
    assert!(!inside.join("haproxy.cfg").exists(), "the mount is the bed's alone");

    // The haproxys of other tests are on that page, too.
    let yaml =
        format!("{GRACES}haproxys: [{{name: bed, match: {{config: {}}}}}]\n", path("haproxy.cfg"));
    let exporter = Exporter::launched(&bed, bed.command_outside(Exporter::binary()), &yaml);
    let own = |page: &Page, name: &str, label: (&str, &str)| {
        page.value(name, &[("haproxy", "bed"), label])
    };
    exporter.await_page("its configuration", |page| {
        own(page, "haproxy_host_up", ("origin", "configured")) == Some(1.0)
            && own(page, "haproxy_host_declared_ports", ("protocol", "tcp")) == Some(2.0)
    });
    service.configure(&listeners(&[8011]));
    exporter.await_page("the edit", |page| {
        own(page, "haproxy_host_anomalies", ("kind", "config_not_loaded")) == Some(1.0)
    });
    fs::write(service.pidfile(), "1\n").unwrap();
    exporter.await_page("the mismatch", |page| {
        own(page, "haproxy_host_anomalies", ("kind", "pidfile_mismatch")) == Some(1.0)
    });
    fs::write(service.pidfile(), format!("{}\n", bed.pids_of("haproxy")[0])).unwrap();
    service.reload();
    exporter.await_page("the reload", |page| {
        page.all("haproxy_host_anomalies", &[("haproxy", "bed")]).all(|kind| kind.value == 0.0)
            && own(page, "haproxy_host_declared_ports", ("protocol", "tcp")) == Some(1.0)
    });
}

/// A file is read when it has changed, and only looked at while it has not.
#[test]
fn read_when_changed() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure(&listeners(&[8011])).start();
    let trace = bed.directory().join("trace");
    let mut command = bed.command(tool("strace"));
    command.args(["-f", "-s", "256", "-e", "trace=open,openat,openat2", "-o"]).arg(&trace);
    command.arg(Exporter::binary());
    let exporter = Exporter::launched(&bed, command, GRACES);
    let count = |what: fn(&str) -> bool| {
        let trace = fs::read_to_string(&trace).unwrap();
        trace.lines().filter(|line| line.contains("haproxy.cfg") && what(line)).count()
    };
    let looks = || count(|line| line.contains("O_PATH"));
    let reads = || count(|line| !line.contains("O_PATH"));
    exporter.await_page("what is declared", |page| declared(page, "tcp") == [1.0]);
    let (looked, read) = (looks(), reads());
    assert!(read >= 1, "the trace shows no reading");
    exporter.await_samples(6);
    assert_eq!(reads(), read, "read again, though nothing has changed");
    assert!(looks() > looked, "the trace shows no look");

    service.configure(&listeners(&[8011, 8012]));
    exporter.await_page("what is declared now", |page| declared(page, "tcp") == [2.0]);
    let after = reads();
    assert!(after > read);
    exporter.await_samples(6);
    assert_eq!(reads(), after, "read again, though nothing has changed");
}

/// A chroot and a relative name: where the file is cannot be known. That is said, and nothing judged.
#[test]
fn hidden_by_a_chroot() {
    let bed = Bed::new();
    let mut service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    let jail = service.path("jail");
    fs::create_dir(&jail).unwrap();
    let pidfile = service.pidfile().display().to_string();
    service.arguments = ["-p", &pidfile, "-f", "haproxy.cfg"].map(str::to_owned).to_vec();
    let change_directory = format!("cd {} && exec \"$@\"", service.path("").display());
    service.wrapper = ["sh", "-c", &change_directory, "sh"].map(str::to_owned).to_vec();
    service.configure_with(&format!("    chroot {}\n", jail.display()), WAITING_ROOM).start();
    let exporter = Exporter::configured(&bed, GRACES);
    let recorder = exporter.record();
    let page = exporter.await_samples(3);
    assert!(page.is("haproxy_host_up", &[], 1.0), "{}", page.brief());
    for kind in ["config_not_loaded", "port_undeclared", "port_missing"] {
        let series = page.all("haproxy_host_anomalies", &[("kind", kind)]).count();
        assert_eq!(series, 0, "{kind} cannot be known: {}", page.brief());
    }
    assert_eq!(page.all("haproxy_host_declared_ports", &[]).count(), 0);
    assert!(!all_read(&page), "what is not known is counted: {}", page.brief());
    service.reload();
    exporter.await_samples(SAMPLES_OF_GRACES);
    recorder.never("an anomaly", something_wrong);
}

/// The ports UDP listeners hold, on every generation.
fn udp_ports(page: &Page) -> Vec<String> {
    let udp = [("protocol", "udp")];
    page.all("haproxy_host_port_info", &udp).map(|port| port.label("port").to_owned()).collect()
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
    await_true("the log socket", || {
        let sockets = bed.shell("ss -Huan");
        sockets.lines().filter(|line| line.contains(":4") && !line.contains(":45000")).count() > 0
    });
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
    await_true("the log socket", || {
        let sockets = bed.shell("ss -Huan");
        sockets.lines().filter(|line| line.contains(":4") && !line.contains(":45514")).count() > 0
    });
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

/// An ordinary day of two haproxys that are edited before each reload.
fn edited_every_time(version: Version) {
    let bed = Bed::new();
    let services = [("one", Manner::DaemonTransfer, 8100), ("two", Manner::Master, 8200)]
        .map(|(name, manner, base)| (Service::named(&bed, version, manner, name), base));
    let edit = |service: &Service<'_>, base: u16, round: u16| {
        service.configure(&format!(
            "{}{}",
            WAITING_ROOM.replace("8001", &base.to_string()),
            listeners(&[base + round, base + round + 1])
        ));
    };
    for (service, base) in &services {
        edit(service, *base, 1);
        service.start();
    }
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    exporter.await_page("two haproxys", |page| page.sum("haproxy_host_up", &[]) == 2.0);
    recorder.forget();
    let mut held = Vec::new();
    for round in 2..6 {
        for (service, base) in &services {
            held.push(Flow::held_by(&bed, &format!("127.0.0.1:{base}"), service.serving()));
            edit(service, *base, round);
            exporter.await_samples(2);
            service.reload();
        }
        exporter.await_samples(6);
    }
    let page = exporter.await_page("long draining", |page| page.stale("draining") == 8.0);
    assert_eq!(bound(&page), ["8100", "8105", "8106", "8200", "8205", "8206"]);
    assert_eq!(declared(&page, "tcp"), [3.0, 3.0]);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
    recorder.never("something unread", |page| !all_read(page));
    recorder.never("another haproxy", |page| page.haproxys().len() != 2);
}
