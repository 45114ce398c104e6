//! The `.rpm` in a system of its own. There is no Red Hat here: a Debian whose presets are those of Red Hat stands in
//! for it, and `rpm` of this machine for `dnf`, which would ask Red Hat's repositories for the libraries.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::build::{self, FORMER_SETTING, packages};
use super::manual::Manual;
use super::support::{installed, text, tool};

/// What a command prints; it must succeed.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {all}");
    all
}

struct System(std::path::PathBuf);

impl System {
    fn rpm(&self, words: &[&str]) -> String {
        let mut rpm = Command::new(tool("rpm"));
        rpm.arg("--root").arg(&self.0).args(["--force-debian"]).args(words);
        if words[0] != "--query" {
            rpm.arg("--nodeps");
        }
        said(&mut rpm)
    }

    /// A command of the page.
    fn run(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["dnf", "install", "-y", file] => {
                let file = packages().directory.join(file);
                self.rpm(&["--install", file.to_str().unwrap()]);
            }
            ["dnf", "upgrade", "-y", file] => {
                let file = packages().directory.join(file);
                self.rpm(&["--upgrade", file.to_str().unwrap()]);
            }
            ["dnf", "remove", "-y", name] => drop(self.rpm(&["--erase", name])),
            // systemd does not run there.
            ["systemctl", "enable", "--now", unit] => {
                let mut systemctl = Command::new(tool("systemctl"));
                said(systemctl.arg("--root").arg(&self.0).args(["enable", unit]));
            }
            _ => {
                let mut chroot = Command::new(tool("chroot"));
                said(chroot.arg(&self.0).args(["sh", "-c", line]));
            }
        }
    }

    fn file(&self, path: &str) -> std::path::PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Gives what it had.
    fn append(&self, path: &str, line: &str) -> String {
        let file = self.file(path);
        let shipped = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{shipped}{line}\n")).unwrap();
        shipped
    }

    fn is_enabled(&self, unit: &str) -> bool {
        let mut systemctl = Command::new(tool("systemctl"));
        systemctl.arg("--root").arg(&self.0).args(["--quiet", "is-enabled", unit]);
        systemctl.status().unwrap().success()
    }

    fn left(&self) -> String {
        let mut find = Command::new("find");
        said(find.arg(&self.0).args(["-xdev", "-name", "*haproxy-host*"]))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A copy of the small Debian that enables nothing by itself.
fn system(name: &str) -> System {
    let suite = std::env::var("SYSTEMD_SUITE").unwrap_or_else(|_| "trixie".to_owned());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    let system = System(root);
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"]).arg(installed(&format!("systemd/{suite}"))).arg(&system.0);
    said(&mut copy);
    let presets = system.0.join("usr/lib/systemd/system-preset");
    fs::create_dir_all(&presets).unwrap();
    for preset in fs::read_dir(&presets).unwrap() {
        fs::remove_file(preset.unwrap().path()).unwrap();
    }
    fs::write(presets.join("99-default-disable.preset"), "disable *\n").unwrap();
    system
}

const UNITS: [&str; 4] = [
    "haproxy-host-exporter.service",
    "haproxy-host-exporter.socket",
    "haproxy-host-exporter-backup.timer",
    "haproxy-host-reap.service",
];

#[test]
fn the_rpm_is_installed_and_removed() {
    let system = system("red-hat");
    let page = Manual::read();
    let commands = page.commands("Red Hat").iter().filter(|line| !line.starts_with("cd "));
    let [install, enable] = commands.collect::<Vec<_>>()[..] else { panic!("two commands") };
    system.run(install);
    assert_eq!(UNITS.map(|unit| system.is_enabled(unit)), [false; 4]);
    assert_eq!(system.rpm(&["--verify", "haproxy-host-exporter"]), "");
    system.run(enable);
    assert_eq!(UNITS.map(|unit| system.is_enabled(unit)), [true, false, false, false]);
    let mut version = Command::new(tool("chroot"));
    version.arg(&system.0).args(["/usr/bin/haproxy-host-exporter", "--version"]);
    assert!(said(&mut version).contains(env!("CARGO_PKG_VERSION")));
    system.run(&page.commands("Remove from Red Hat")[0]);
    assert_eq!(system.left(), "");
}

/// The scripts of both versions run: `post` of the new one with 2, `preun` and `postun` of the former one with 1. What
/// the operator has enabled and written stays, and what he has not changed is replaced.
#[test]
fn the_rpm_is_upgraded() {
    let system = system("red-hat-upgraded");
    let page = Manual::read();
    let previous = build::previous(".rpm");
    system.rpm(&["--install", previous.to_str().unwrap()]);
    let (settings, others) =
        ("/etc/default/haproxy-host-exporter", "/etc/default/haproxy-host-reap");
    assert!(system.append(settings, "# changed").contains(FORMER_SETTING));
    assert!(fs::read_to_string(system.file(others)).unwrap().contains(FORMER_SETTING));
    system.append("/etc/haproxy-host-exporter/config.yaml", "defaults: {stale_grace: 1s}");
    // A `preset` of the new package would disable it, and so would a `disable` of the former one.
    system.run(&page.commands("Red Hat").last().unwrap().clone());
    let state = system.file("/run/haproxy-host-reap");
    fs::create_dir_all(&state).unwrap();

    let upgrade = page.commands("Upgrade on Red Hat").last().unwrap();
    system.run(upgrade);
    let version = system.rpm(&["--query", "--queryformat", "%{VERSION}", "haproxy-host-exporter"]);
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(UNITS.map(|unit| system.is_enabled(unit)), [true, false, false, false]);
    assert!(state.exists(), "the state of the reaper is gone");
    let kept = fs::read_to_string(system.file(settings)).unwrap();
    assert!(kept.contains(FORMER_SETTING) && kept.ends_with("# changed\n"), "{kept}");
    assert!(system.file(&format!("{settings}.rpmnew")).exists());
    assert!(!fs::read_to_string(system.file(others)).unwrap().contains(FORMER_SETTING));
    let policy = fs::read_to_string(system.file("/etc/haproxy-host-exporter/config.yaml")).unwrap();
    assert!(policy.ends_with("stale_grace: 1s}\n"), "{policy}");

    for line in page.commands("Remove from Red Hat") {
        system.run(line);
    }
    assert_eq!(system.left(), "");
}
