//! `check` and what a reload changes, compared with what the real HAProxy listens on after it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs;

use serde_json::Value;
use support::*;

/// Proxies that listen on these ports.
fn proxies(ports: &str) -> String {
    format!("frontend a\n    mode tcp\n    bind {ports}\n")
}

/// The port numbers of a list of `changes`.
fn numbers(changes: &Value, list: &str) -> Vec<u64> {
    let ports = changes[list].as_array().unwrap_or_else(|| panic!("{changes:#}"));
    ports.iter().map(|port| port["port"].as_u64().unwrap()).collect()
}

fn what_a_reload_adds_and_drops(version: Version) {
    for manner in [Manner::Daemon, Manner::Master] {
        let bed = Bed::new();
        let service = Service::new(&bed, version, manner);
        service.configure(&proxies(":443,:8001"));
        service.start();
        let file = service.path("haproxy.cfg").display().to_string();
        let said = assert_exit(&bed, &["-f", &file], 0, &["haproxy: keeps 2 ports"]);
        assert!(!said.contains("adds") && !said.contains("drops"), "{said}");
        service.configure(&proxies(":8001-8003,127.0.0.1:8004"));
        let words = ["adds tcp 8002-8003\n", "adds tcp 127.0.0.1 8004\n", "drops tcp 443\n"];
        assert_exit(&bed, &["-f", &file], 0, &[&words[..], &["keeps 1 port\n"]].concat());
        // Without -f for every service, with its name.
        for arguments in [&["-f", file.as_str()][..], &[][..]] {
            let report = check_json(&bed, arguments);
            let changes = &report["changes"][0];
            assert_eq!(changes["haproxy"], "haproxy", "{manner:?}: {report:#}");
            assert_eq!(numbers(changes, "added"), [8002, 8003, 8004]);
            assert_eq!(numbers(changes, "dropped"), [443]);
            assert_eq!((&changes["kept"], &changes["restart"]), (&1.into(), &false.into()));
        }
        let report = check_json(&bed, &["-f", &file, "--offline"]);
        assert_eq!(report["changes"], Value::Array(vec![]), "nothing of the host is looked at");
        service.reload();
        assert_exit(&bed, &["-f", &file], 0, &["keeps 4 ports"]);
        let listening = bed.shell("ss -Hanlt");
        let listens = |port: u16| listening.contains(&format!(":{port} "));
        assert!([8001, 8002, 8003, 8004].into_iter().all(listens) && !listens(443), "{listening}");
        // What HAProxy refuses changes nothing, and nor does what no service runs.
        service.configure("frontend a\n    bind nonsense\n");
        assert_eq!(check_json(&bed, &["-f", &file])["changes"], Value::Array(vec![]));
        let other = bed.write("other.cfg", "frontend a\n    bind :9001\n").display().to_string();
        assert_eq!(check_json(&bed, &["-f", &other])["changes"], Value::Array(vec![]));
    }
}

for_each_version! {
    added_and_dropped => what_a_reload_adds_and_drops;
}

/// The executable is replaced on disk, as a package manager does it, by one of another branch, by one of
/// the same branch, and by something else.
#[test]
fn another_branch_needs_a_restart() {
    let bed = Bed::new();
    let mut service = Service::new(&bed, Version::V3_0, Manner::Master);
    let binary = service.path("haproxy");
    let replace = |version: Version| {
        let new = bed.directory().join("haproxy.new");
        fs::copy(version.binary(), &new).unwrap();
        fs::rename(new, &binary).unwrap();
    };
    replace(Version::V3_0);
    service.binary.clone_from(&binary);
    service.configure(&proxies(":8001"));
    service.start();
    let file = service.path("haproxy.cfg").display().to_string();
    let restart = || check_json(&bed, &["-f", &file])["changes"][0]["restart"].clone();
    assert_eq!(restart(), false);
    replace(Version::V3_2);
    assert_eq!(restart(), true);
    assert_exit(&bed, &["-f", &file], 0, &["restart, not reload: 3.0.", "runs, and 3.2."]);
    replace(Version::V3_0);
    assert_eq!(restart(), false, "another file of the same branch");
    fs::write(bed.directory().join("text"), "no program").unwrap();
    fs::rename(bed.directory().join("text"), &binary).unwrap();
    assert_eq!(restart(), Value::Null);
    fs::remove_file(&binary).unwrap();
    assert_eq!(restart(), Value::Null);
}
