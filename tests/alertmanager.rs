//! The shipped Alertmanager configuration in a live Alertmanager: which alert inhibits which, and that one
//! host never silences another.
//!
//! In every version of tests/versions.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A running Alertmanager, ended with the test.
struct Alertmanager {
    child: Child,
    amtool: PathBuf,
    url: String,
    _storage: TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Alertmanager {
    fn start(binary: &Path, amtool: PathBuf) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let storage = TempDir::new().unwrap();
        let child = Command::new(binary)
            .current_dir(root())
            .arg("--config.file=deploy/alertmanager/alertmanager.yaml")
            .arg(format!("--storage.path={}", storage.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("{}: {why} (tests/install)", binary.display()));
        let started =
            Self { child, amtool, url: format!("http://127.0.0.1:{port}"), _storage: storage };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !started.amtool(&["alert", "query"]).0 {
            assert!(Instant::now() < deadline, "{} does not answer", binary.display());
            sleep(Duration::from_millis(100));
        }
        started
    }

    fn amtool(&self, arguments: &[&str]) -> (bool, String) {
        let said = Command::new(&self.amtool)
            .arg(format!("--alertmanager.url={}", self.url))
            .args(arguments)
            .output()
            .expect("amtool");
        (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
    }

    fn fire(&self, labels: &[&str]) {
        let (sent, said) = self.amtool(&[&["alert", "add"], labels].concat());
        assert!(sent, "{labels:?}: {said}");
    }

    /// Names of the alerts that are inhibited, with their instance, sorted.
    fn inhibited(&self) -> Vec<String> {
        let (_, said) = self.amtool(&["alert", "query", "--inhibited", "--output=json"]);
        let alerts: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let mut names: Vec<String> = alerts
            .as_array()
            .expect("a list")
            .iter()
            .filter(|alert| !alert["status"]["inhibitedBy"].as_array().expect("a list").is_empty())
            .map(|alert| {
                let label = |name: &str| alert["labels"][name].as_str().unwrap_or("-").to_owned();
                format!(
                    "{}/{}/{}/{}",
                    label("alertname"),
                    label("cluster"),
                    label("instance"),
                    label("severity")
                )
            })
            .collect();
        names.sort();
        names
    }
}

/// What fires, and which of it stays silent.
struct Case {
    why: &'static str,
    firing: &'static [&'static str],
    silent: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        why: "an exporter that is down silences its own host, in its own cluster",
        firing: &[
            "HAProxyHostExporterDown severity=warning cluster=eu1 instance=lb1",
            "HAProxyPortBlocked severity=critical cluster=eu1 instance=lb1 haproxy=a port=80",
            "HAProxyPortBlocked severity=critical cluster=eu1 instance=lb2 haproxy=a port=80",
            "HAProxyPortBlocked severity=critical cluster=us1 instance=lb1 haproxy=a port=80",
        ],
        silent: &["HAProxyPortBlocked/eu1/lb1/critical"],
    },
    Case {
        why: "a host that is down silences its exporter",
        firing: &[
            "NodeDown severity=critical cluster=eu1 instance=lb1",
            "HAProxyHostExporterDown severity=warning cluster=eu1 instance=lb1",
            "HAProxyHostExporterDown severity=warning cluster=eu1 instance=lb2",
        ],
        silent: &["HAProxyHostExporterDown/eu1/lb1/warning"],
    },
    Case {
        why: "the page silences the ticket about the same thing",
        firing: &[
            "HAProxyReloadsUntilMemoryExhausted severity=critical cluster=eu1 instance=lb1 haproxy=a",
            "HAProxyReloadsUntilMemoryExhausted severity=warning cluster=eu1 instance=lb1 haproxy=a",
            "HAProxyReloadsUntilMemoryExhausted severity=warning cluster=eu1 instance=lb1 haproxy=b",
            "HAProxyStaleProcessesPilingUp severity=warning cluster=eu1 instance=lb1 haproxy=a",
        ],
        silent: &["HAProxyReloadsUntilMemoryExhausted/eu1/lb1/warning"],
    },
    Case {
        why: "a haproxy that is down silences what follows from it, and not the cause",
        firing: &[
            "HAProxyDown severity=critical cluster=eu1 instance=lb1 haproxy=a",
            "HAProxyPortBlocked severity=critical cluster=eu1 instance=lb1 haproxy=a port=80 kind=port_blocked",
            "HAProxyPidfileMismatch severity=warning cluster=eu1 instance=lb1 haproxy=a",
            "HAProxyPidfileMismatch severity=warning cluster=eu1 instance=lb1 haproxy=b",
            "HAProxyHostExporterBlind severity=warning cluster=eu1 instance=lb1",
        ],
        silent: &["HAProxyPidfileMismatch/eu1/lb1/warning"],
    },
    Case {
        why: "a held port explains a failed reload",
        firing: &[
            "HAProxyPortBlocked severity=critical cluster=eu1 instance=lb1 haproxy=a port=80",
            "HAProxyReloadFailed severity=warning cluster=eu1 instance=lb1 haproxy=a",
            "HAProxyReloadFailed severity=warning cluster=eu1 instance=lb2 haproxy=a",
        ],
        silent: &["HAProxyReloadFailed/eu1/lb1/warning"],
    },
    Case {
        why: "no exporter anywhere silences no alert",
        firing: &[
            "HAProxyHostExporterAbsent severity=warning cluster=eu1",
            "HAProxyPortBlocked severity=critical cluster=eu1 instance=lb1 haproxy=a port=80",
        ],
        silent: &[],
    },
];

#[test]
fn inhibition_in_a_live_alertmanager() {
    let versions = fs::read_dir(root().join("tests/.cache/alertmanager")).expect("tests/install");
    for version in versions {
        let directory = version.expect("a readable directory entry").path();
        let (binary, amtool) =
            (directory.join("prometheus-alertmanager"), directory.join("amtool"));
        for case in &CASES {
            let alertmanager = Alertmanager::start(&binary, amtool.clone());
            for labels in case.firing {
                alertmanager.fire(&labels.split(' ').collect::<Vec<_>>());
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            // As it should be, and still so a moment later.
            let mut settled = 0;
            while settled < 5 {
                let silent = alertmanager.inhibited();
                settled = if silent == case.silent { settled + 1 } else { 0 };
                assert!(
                    Instant::now() < deadline,
                    "{}: {}: silent are {silent:?}",
                    binary.display(),
                    case.why
                );
                sleep(Duration::from_millis(100));
            }
        }
    }
}
