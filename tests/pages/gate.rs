//! The gate for a script in README.md: a new configuration takes the place of the old one only where `check`, or HAProxy
//! itself where `check` has no verdict, accepts it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::blocks::blocks;
use super::host::Host;

const GOOD: &str = "cat /etc/haproxy/haproxy.cfg >$new && echo '# new' >>$new";
const BAD: &str = "echo 'no such section' >$new";

impl Host {
    /// Puts a script in the place of a program.
    fn replace(&self, program: &str, script: &str) {
        let file = self.bed.directory().join("programs").join(program);
        let _ = fs::remove_file(&file);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs the gate on this configuration. Gives its exit code, and whether the new configuration was put in place and
/// loaded.
fn run(check: Option<&str>, configuration: &str) -> (i32, bool) {
    let gates: Vec<_> = blocks()
        .into_iter()
        .filter(|block| {
            block.page == Path::new("README.md") && block.content.contains("case $? in")
        })
        .collect();
    let [gate] = &gates[..] else { panic!("{gates:#?}") };
    let host = Host::healthy();
    host.replace("systemctl", "echo \"$@\" >>/run/systemctl");
    if let Some(script) = check {
        host.replace("haproxy-host-exporter", script);
    }
    assert_eq!(host.shell(configuration).0, 0);
    let (code, said) = host.shell(&format!("cd /run\n{}", gate.content));
    let moved = host.shell("[ ! -e $new ]").0 == 0;
    let loaded = host.shell("grep -qx 'reload haproxy' /run/systemctl").0 == 0;
    assert_eq!(moved, loaded, "{said}");
    (code, moved)
}

#[test]
fn it_loads_what_check_accepts() {
    assert_eq!(run(None, GOOD), (0, true));
}

#[test]
fn it_refuses_what_check_refuses() {
    assert_eq!(run(None, BAD), (1, false));
}

#[test]
fn without_a_verdict_haproxy_decides() {
    assert_eq!(run(Some("exit 3"), GOOD), (0, true));
    assert_eq!(run(Some("exit 3"), BAD), (1, false));
}

#[test]
fn it_refuses_where_check_cannot_run() {
    for script in ["exit 2", "kill -KILL $$"] {
        assert_eq!(run(Some(script), GOOD), (1, false), "{script}");
    }
}
