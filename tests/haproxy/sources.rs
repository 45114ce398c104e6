//! Where a configuration is: found by itself however it is named, and read when it changes.

use std::fs;
use std::path::PathBuf;

use super::configs::{GRACES, SAMPLES_OF_GRACES, all_read, declared};
use super::proxies::{
    WAITING_ROOM, WAITING_ROOM_ADDRESS, listeners, something_down, something_wrong, stale,
};
use crate::support::*;

for_each_version! {
    found_by_itself => found_by_itself;
    mode_of_a_daemon => |version| mode_in_the_configuration(version, Manner::Daemon);
    mode_of_a_master => |version| mode_in_the_configuration(version, Manner::Master);
}
for_each_version! { [v2_6 V2_6, v3_2 V3_2, v3_4 V3_4]
    from_the_host => from_the_host;
}

/// Every way to name the files, by daemons and by masters.
fn found_by_itself(version: Version) {
    let bed = Bed::new();
    let mut services = ways(&bed, version, Manner::Daemon, "d", 8020);
    services.extend(ways(&bed, version, Manner::Master, "w", 8040));
    for (service, _) in &services {
        service.start();
    }
    // So many reloads keep the machine busy, and processes that were told to end take their time.
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
    exporter.await_page("its end", |page| page.anomalies_are(&[]));
}

/// What an exporter on the host sees of a haproxy whose files are elsewhere for it.
fn from_the_host(version: Version) {
    let host = Bed::new();
    let bed = Bed::inside_of(&host);
    let mut service = Service::new(&bed, version, Manner::Master);
    let inside = bed.directory().join("inside");
    fs::create_dir(&inside).unwrap();
    bed.shell(&format!("mount --bind {} {}", service.path("").display(), inside.display()));
    let path = |name: &str| inside.join(name).display().to_string();
    service.arguments =
        ["-p", &path("haproxy.pid"), "-f", &path("haproxy.cfg")].map(str::to_owned).to_vec();
    service.configure(&listeners(&[8011, 8012])).start();
    assert!(!inside.join("haproxy.cfg").exists(), "the mount is the bed's alone");

    let yaml =
        format!("{GRACES}haproxys: [{{name: bed, match: {{config: {}}}}}]\n", path("haproxy.cfg"));
    let exporter =
        Exporter::launched(&bed, host.command_in_network_of(&bed, Exporter::binary()), &yaml);
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
