//! The `.rpm` in a system of its own. There is no Red Hat here: a Debian whose presets are those of Red Hat stands in
//! for it, and `rpm` of this machine for `dnf`, which would ask Red Hat's repositories for the libraries.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::build::packages;
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
        rpm.arg("--root").arg(&self.0).args(["--force-debian", "--nodeps"]).args(words);
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
            ["dnf", "remove", "-y", name] => drop(self.rpm(&["--erase", name])),
            // systemd does not run there.
            ["systemctl", "enable", "--now", unit] => {
                let mut systemctl = Command::new(tool("systemctl"));
                said(systemctl.arg("--root").arg(&self.0).args(["enable", unit]));
            }
            other => {
                let mut chroot = Command::new(tool("chroot"));
                said(chroot.arg(&self.0).args(other));
            }
        }
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

#[test]
fn the_rpm_is_installed_and_removed() {
    let suite = std::env::var("SYSTEMD_SUITE").unwrap_or_else(|_| "trixie".to_owned());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("red-hat");
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

    let page = Manual::read();
    let [install, enable] = page.commands("Red Hat") else { panic!("two commands") };
    system.run(install);
    let units = [
        "haproxy-host-exporter.service",
        "haproxy-host-exporter.socket",
        "haproxy-host-exporter-backup.timer",
        "haproxy-host-reap.service",
    ];
    assert_eq!(units.map(|unit| system.is_enabled(unit)), [false; 4]);
    assert_eq!(system.rpm(&["--verify", "haproxy-host-exporter"]), "");
    system.run(enable);
    assert_eq!(units.map(|unit| system.is_enabled(unit)), [true, false, false, false]);
    let mut version = Command::new(tool("chroot"));
    version.arg(&system.0).args(["/usr/bin/haproxy-host-exporter", "--version"]);
    assert!(said(&mut version).contains(env!("CARGO_PKG_VERSION")));
    system.run(&page.commands("Remove from Red Hat")[0]);
    assert_eq!(system.left(), "");
}
