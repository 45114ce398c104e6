//! `docs/upgrade-haproxy.md`, word by word, from 2.6 to 3.2 to 3.4, with a configuration that breaks on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;

/// The commands of each step of the page.
fn steps() -> BTreeMap<char, Vec<String>> {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/upgrade-haproxy.md"))
            .unwrap();
    let mut steps: BTreeMap<char, Vec<String>> = BTreeMap::new();
    let mut step = ' ';
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            step = title.chars().next().unwrap();
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.entry(step).or_default().push(command.to_owned());
        }
    }
    assert_eq!(steps.keys().collect::<String>(), "12345");
    steps
}

/// A host with HAProxy as a package.
struct Host<'b> {
    bed: &'b Bed,
    service: Service<'b>,
    /// The version that apt has.
    offered: Version,
    config: PathBuf,
}

impl Host<'_> {
    fn installed(&self, version: Version) {
        let new = self.service.path("haproxy.dpkg-new");
        copy_program(version.binary(), &new);
        fs::rename(&new, &self.service.binary).unwrap();
    }

    fn restart(&self) {
        let master = self.service.master();
        self.bed.kill("TERM", master);
        await_true("the end of the old master", || !self.bed.is_alive(master));
        fs::remove_file(self.service.pidfile()).ok();
        self.service.start();
    }

    /// Runs a command of the page; gives its exit code and what it said.
    fn run(&self, command: &str) -> (i32, String) {
        match command {
            "apt-get download haproxy" => {}
            "dpkg -x haproxy_*.deb new" => {
                let place = self.bed.directory().join("new/usr/sbin");
                fs::create_dir_all(&place).unwrap();
                fs::remove_file(place.join("haproxy")).ok();
                copy_program(self.offered.binary(), place.join("haproxy"));
            }
            "apt-get install haproxy" => self.installed(self.offered),
            "systemctl restart haproxy" => self.restart(),
            ours => {
                let words: Vec<&str> =
                    ours.strip_prefix("haproxy-host-exporter ").expect(ours).split(' ').collect();
                let mut all = self.bed.command(Exporter::binary());
                all.args(words).arg("--config.file").arg(&self.config);
                let output = all.output().unwrap();
                let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
                return (output.status.code().unwrap(), said);
            }
        }
        (0, String::new())
    }

    /// Runs all commands of a step, all of which succeed.
    #[track_caller]
    fn step(&self, commands: &[String]) {
        for command in commands {
            let (code, said) = self.run(command);
            assert_eq!(code, 0, "{command}: {said}");
        }
    }
}

#[test]
fn the_page_leads_from_2_6_to_3_4_and_back() {
    let bed = Bed::new();
    let mut service = Service::new(&bed, Version::V2_6, Manner::Master);
    service.binary = service.path("haproxy");
    copy_program(Version::V2_6.binary(), &service.binary);
    let good = "defaults\n    mode http\nlisten l\n    bind 127.0.0.1:8001\n";
    service.configure(&good.replace("listen l\n", "listen l\n    bind-process 1\n"));
    service.start();
    let config = bed.write(
        "exporter.yaml",
        &format!("backup: {{directory: {}}}\n", bed.directory().join("store").display()),
    );
    let steps = steps();
    let mut host = Host { bed: &bed, service, offered: Version::V3_2, config };
    // The configuration that runs breaks with the next version, and the line is named.
    host.step(&steps[&'1']);
    let (last, before) = steps[&'2'].split_last().unwrap();
    host.step(before);
    let (code, said) = host.run(last);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("upgrade_removed") && said.contains("bind-process"), "{said}");
    host.service.configure(good);
    host.service.reload();
    for next in [Version::V3_2, Version::V3_4] {
        host.offered = next;
        for step in ['1', '2', '3', '4'] {
            host.step(&steps[&step]);
        }
    }
    // An edit breaks it after the upgrade: the page leads back.
    fs::write(host.service.path("haproxy.cfg"), "nonsense\n").unwrap();
    let [show, execute, restart] = steps[&'5'].as_slice() else { panic!("{steps:?}") };
    let (code, said) = host.run(show);
    assert!(code == 1 && said.contains("dry run"), "{said}");
    let (code, said) = host.run(execute);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("it ran with HAProxy 3.2") && said.contains("another program now"),
        "{said}"
    );
    host.installed(Version::V3_2);
    host.step(std::slice::from_ref(restart));
    host.step(&steps[&'4']);
}
