//! The stack of deploy/container/compose.yaml, started by podman-compose. The machine of the tests reaches no registry of
//! images: the exporter's is built, and for HAProxy, Prometheus and Alertmanager an image with Debian's programs
//! stands in under the name that the file has. Grafana is in no Debian, and is not started.

use std::fs;

use serde_json::Value;

use super::podman::{Podman, root, succeed};
use super::support::*;

/// What the stand-in needs beyond the file: where its programs are. Only Debian's Alertmanager wants templates, and the
/// test's bed has no bridge for HAProxy.
const STAND_IN: &str = "
services:
  haproxy:
    network_mode: host
    entrypoint: [/usr/sbin/haproxy, -W, -db, -f, /usr/local/etc/haproxy/haproxy.cfg]
  prometheus:
    entrypoint: [/debian/prometheus]
    volumes: ['PROMETHEUS:/debian:ro']
  alertmanager:
    entrypoint: [/debian/prometheus-alertmanager]
    volumes: ['ALERTMANAGER:/debian:ro', 'ALERTMANAGER/templates:/usr/share/prometheus/alertmanager:ro']
";

#[test]
fn the_stack_starts_and_knows_its_parts() {
    let bed = Bed::new();
    let podman = Podman::new(&bed);
    let compose = root().join("deploy/container/compose.yaml");
    let stack: serde_yaml::Value =
        serde_yaml::from_str(&fs::read_to_string(&compose).unwrap()).unwrap();
    let image = |service: &str| stack["services"][service]["image"].as_str().unwrap();
    podman.stand_in_for(&[image("haproxy"), image("prometheus"), image("alertmanager")]);
    let place = |path: &str| installed(path).display().to_string();
    let stand_in = STAND_IN
        .replace("PROMETHEUS", &place("prometheus/stable"))
        .replace("ALERTMANAGER", &place("alertmanager/stable"));
    let stand_in = bed.write("stand-in.yaml", &stand_in);
    let mut command = bed.command(installed("containers/python/bin/podman-compose"));
    command.envs(podman.environment()).arg("--in-pod=false").arg("-f").arg(&compose);
    command.arg("-f").arg(stand_in).args(["up", "-d", "--no-build"]);
    succeed(command.args(["haproxy", "exporter", "prometheus", "alertmanager"]));

    let name = "haproxy-host-exporter_exporter_1";
    let page =
        podman.await_page(name, "the haproxy", |page| page.sum("haproxy_host_up", &[]) == 1.0);
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    await_true("the exporter's health", || {
        podman.command(&["healthcheck", "run", name]).output().unwrap().status.success()
    });
    let answer = |address: &str, path: &str| -> Option<Value> {
        serde_json::from_str(&bed.inside(|| fetch(address, path))?).ok()
    };
    await_true("Prometheus to have scraped the exporter", || {
        let targets = answer("127.0.0.1:9090", "/api/v1/targets").unwrap_or_default();
        targets["data"]["activeTargets"][0]["health"] == "up"
    });
    let rules = answer("127.0.0.1:9090", "/api/v1/rules").unwrap();
    let files = fs::read_dir(root().join("alerts")).unwrap().flatten();
    let files = files.filter(|file| file.file_name().to_string_lossy().ends_with(".rules.yaml"));
    assert!(rules["data"]["groups"].as_array().unwrap().len() >= files.count(), "{rules}");
    await_true("Prometheus to know Alertmanager", || {
        let known = answer("127.0.0.1:9090", "/api/v1/alertmanagers").unwrap_or_default();
        !known["data"]["activeAlertmanagers"].as_array().is_none_or(Vec::is_empty)
    });
    await_true("Alertmanager", || {
        let status = answer("127.0.0.1:9093", "/api/v2/status").unwrap_or_default();
        status["config"]["original"].as_str().is_some_and(|config| config.contains("group_by"))
    });
}
