//! An ordinary day: everything here is right, however odd it looks, and nothing may be said about it.

use std::collections::BTreeSet;
use std::fs;

use super::proxies::{ECHO, listeners, something_down, something_wrong, stale};
use crate::support::*;

for_each_version! {
    rolling_reloads => rolling_reloads;
}

const ROUNDS: usize = 7;

fn rolling_reloads(version: Version) {
    let bed = Bed::new();
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();

    let jailed = jailed(&bed, version);
    let twins = [("one", 8011), ("two", 8012)].map(|(name, port)| twin(&bed, version, name, port));
    let pods = ["pod-1", "pod-2"].map(|name| Pod::start(&bed, version, name));
    let page = exporter.await_page("five haproxys", |page| page.sum("haproxy_host_up", &[]) == 5.0);
    let names = page.haproxys();
    assert_eq!(names.len(), 5, "{}", page.brief());
    assert!(names.contains("pod-1") && names.contains("pod-2"), "{names:?}");

    // From here on they are all up, under these names, through every reload.
    recorder.never("an anomaly", something_wrong);
    recorder.forget();
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        held.push(Flow::echoing(&bed, "127.0.0.1:8002"));
        jailed.reload();
        twins[round % 2].reload();
        pods[round % 2].reload();
        // A few seconds between reloads, as on a busy day.
        exporter.await_samples(9);
        held.iter_mut().for_each(Flow::prove);
    }
    let page = exporter.await_page("long draining", |page| page.stale("draining") == ROUNDS as f64);
    assert_eq!(page.stale("listening"), 0.0);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a haproxy down", something_down);
    recorder.never("more stale processes than there are", |page| {
        // Those that drain, and one of each service on its way out.
        stale(page) > (ROUNDS + 4) as f64
    });
    recorder.never("another name", |page| page.haproxys() != names);
}

/// In a chroot, started by a script that always says `-sf`.
fn jailed(bed: &Bed, version: Version) -> Service<'_> {
    let service = Service::named(bed, version, Manner::DaemonTransfer, "jailed");
    let jail = service.path("jail");
    fs::create_dir(&jail).unwrap();
    service.configure_with(&format!("    chroot {}\n", jail.display()), ECHO);
    assert!(service.launch(&["-sf"]).status.success());
    service
}

/// The same arguments as its twin's, in another directory.
fn twin<'b>(bed: &'b Bed, version: Version, name: &str, port: u16) -> Service<'b> {
    let mut service = Service::named(bed, version, Manner::Daemon, name);
    service.arguments = ["-p", "haproxy.pid", "-f", "haproxy.cfg"].map(str::to_owned).to_vec();
    let change_directory = format!("cd {} && exec \"$@\"", service.path("").display());
    service.wrapper = ["sh", "-c", &change_directory, "sh"].map(str::to_owned).to_vec();
    service.configure(&listeners(&[port])).start();
    service
}

/// A master as pid 1 of namespaces of its own, with the same arguments as the other pod's.
struct Pod<'b> {
    bed: &'b Bed,
    /// The master's pid in the bed.
    master: i32,
}

impl<'b> Pod<'b> {
    fn start(bed: &'b Bed, version: Version, name: &str) -> Self {
        let service = Service::named(bed, version, Manner::Master, name);
        service.configure(&listeners(&[8080]));
        let text = fs::read_to_string(service.path("haproxy.cfg")).unwrap();
        // As it sees itself: its directory is /mnt.
        service.configure_raw(&text.replace(&service.path("").display().to_string(), "/mnt/"));
        let line = format!(
            "setsid --fork env HOSTNAME={name} unshare --pid --net --mount --mount-proc --fork --kill-child \
             sh -c 'ip link set lo up && mount --bind {directory} /mnt && exec {binary} -W \
             -p /mnt/haproxy.pid -f /mnt/haproxy.cfg -S /mnt/master.sock' >{directory}log 2>&1",
            directory = service.path("").display(),
            binary = service.binary.display(),
        );
        let before: BTreeSet<i32> = bed.pids_of("haproxy").into_iter().collect();
        bed.shell(&line);
        // One new process with a child that listens: the master.
        let master = await_some("the pod's master", || {
            bed.pids_of("haproxy")
                .into_iter()
                .filter(|pid| !before.contains(pid))
                .find(|&pid| bed.children(pid).iter().any(|&worker| bed.listens(worker)))
        });
        Self { bed, master }
    }

    fn reload(&self) {
        let old = self.bed.children(self.master);
        self.bed.kill("USR2", self.master);
        await_true("the pod's new worker", || {
            let new = self.bed.children(self.master);
            new.iter().any(|worker| !old.contains(worker) && self.bed.listens(*worker))
                && !old.iter().any(|&worker| self.bed.listens(worker))
        });
    }
}

/// The three modes by their names, and a foreground process that belongs to no other's generations.
#[test]
fn modes() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let services =
        [("d", Manner::Daemon, 8011), ("w", Manner::Master, 8012)].map(|(name, manner, port)| {
            let service = Service::named(&bed, Version::V2_6, manner, name);
            service.configure(&listeners(&[port])).start();
            service
        });
    let foreground = ["f1", "f2"].map(|name| {
        let service = Service::named(&bed, Version::V2_6, Manner::Daemon, name);
        service.configure(&listeners(&[if name == "f1" { 8013 } else { 8014 }]));
        let mut command = bed.command(&service.binary);
        command.arg("-db").arg("-f").arg(service.path("haproxy.cfg"));
        bed.start(command, &format!("{name}.log"))
    });
    let page = exporter.await_page("four haproxys", |page| page.sum("haproxy_host_up", &[]) == 4.0);
    let modes: Vec<&str> = page
        .all("haproxy_host_info", &[])
        .map(|info| info.label("mode"))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(modes, ["daemon", "foreground", "master-worker"]);
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
    recorder.never("a stale process", |page| page.sum("haproxy_host_stale_processes", &[]) > 0.0);
    drop((services, foreground));
}

/// Runs that only check a configuration or say a version come and go unnoticed.
#[test]
fn checks() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    service.configure(&listeners(&[8011])).start();
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let binary = service.binary.display().to_string();
    let config = service.path("haproxy.cfg").display().to_string();
    for _ in 0..15 {
        assert!(bed.run(&binary, &["-c", "-f", &config]).status.success());
        assert!(bed.run(&binary, &["-vv"]).status.success());
    }
    exporter.await_samples(2);
    recorder.never("another haproxy", |page| page.haproxys().len() != 1);
    recorder.never("another process", |page| page.sum("haproxy_host_processes", &[]) > 1.0);
    recorder.never("an anomaly", something_wrong);
}

/// A haproxy has the name of its unit, and the units of two with equal arguments distinguish them.
#[test]
fn named_after_units() {
    let bed = Bed::new();
    let units = ["bed-a", "bed-b"].map(|name| Unit::new(&bed, name));
    let services = [8011, 8012].map(|port| {
        let mut service = Service::named(&bed, Version::V2_8, Manner::Daemon, &port.to_string());
        // Equal arguments from one directory: the environment makes the difference.
        service.arguments = ["-f", "haproxy.cfg"].map(str::to_owned).to_vec();
        service.configure_raw(&format!(
            "defaults\n timeout connect 1s\n timeout client 1h\n timeout server 1h\n{}",
            listeners(&[port])
        ));
        service
    });
    for (unit, service) in units.iter().zip(&services) {
        unit.run(service);
    }
    let exporter = Exporter::start(&bed);
    let recorder = exporter.record();
    let page = exporter.await_page("two haproxys", |page| page.sum("haproxy_host_up", &[]) == 2.0);
    let wanted: BTreeSet<String> = units.iter().map(|unit| unit.name.clone()).collect();
    assert_eq!(page.haproxys(), wanted);
    exporter.await_samples(7);
    recorder.never("an anomaly", something_wrong);
}

/// A cgroup as systemd makes it for a service.
struct Unit<'b> {
    bed: &'b Bed,
    name: String,
    directory: String,
}

impl<'b> Unit<'b> {
    fn new(bed: &'b Bed, stem: &str) -> Self {
        // The hierarchy is the machine's, not the bed's, so the name must be unique on the machine.
        let bed_name = bed.directory().file_name().unwrap().display();
        let name = format!("{stem}-{bed_name}");
        let mount = bed.directory().join("cgroup").display().to_string();
        bed.shell(&format!(
            "mkdir -p {mount}; mountpoint -q {mount} || mount -t cgroup2 none {mount}"
        ));
        let directory = format!("{mount}/{name}.service");
        bed.shell(&format!("mkdir {directory}"));
        Self { bed, name, directory }
    }

    fn run(&self, service: &Service<'_>) {
        let arguments = service.arguments.join(" ");
        self.bed.shell(&format!(
            "echo 0 >{}/cgroup.procs && cd {} && {} -D {arguments}",
            self.directory,
            service.path("").display(),
            service.binary.display(),
        ));
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        let directory = &self.directory;
        self.bed.shell(&format!(
            "kill -KILL $(cat {directory}/cgroup.procs); until rmdir {directory}; do sleep 0.05; done 2>/dev/null"
        ));
    }
}
